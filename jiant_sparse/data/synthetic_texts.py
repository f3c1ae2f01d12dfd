"""Sentence makers of the synthetic tasks: one function per task, from a label to a row.

Every function takes a generator and the wanted label and returns the row without its idx. The
words are common ones that BERT's and RoBERTa's vocabularies hold whole, so rows stay short.
"""

import random

MEN = ("man", "boy", "king", "father", "uncle")
WOMEN = ("woman", "girl", "queen", "mother", "aunt")
PEOPLE = MEN + WOMEN + ("doctor", "teacher", "farmer", "student")
ANIMALS = ("dog", "cat", "horse", "bird", "cow", "pig", "lion", "bear", "wolf", "monkey")
PLACES = ("park", "garden", "house", "street", "school", "forest", "kitchen", "church")
# Third person singular, plural.
VERBS = (
    ("chases", "chase"),
    ("sees", "see"),
    ("likes", "like"),
    ("follows", "follow"),
    ("finds", "find"),
    ("hears", "hear"),
    ("feeds", "feed"),
    ("fears", "fear"),
)
PLURALS = {"man": "men", "woman": "women", "wolf": "wolves"}
ADJECTIVES = ("old", "young", "tall", "happy", "angry", "tired", "rich", "poor")
ACTIONS = (
    "plays the guitar",
    "rides a bike",
    "eats some soup",
    "reads a book",
    "washes the car",
    "paints a wall",
    "cuts some bread",
    "kicks a ball",
    "drinks some tea",
    "writes a letter",
)


def _sentence(words: list[str]) -> str:
    text = " ".join(words)
    return text[0].upper() + text[1:] + "."


def cola(generator: random.Random, label: str) -> dict:
    """Acceptable: subject, verb, object, place. Not: out of order, or the verb disagrees."""
    nouns = generator.sample(PEOPLE + ANIMALS, 2)
    verb, place = generator.choice(VERBS), generator.choice(PLACES)
    is_plural = generator.random() < 0.5
    subject = PLURALS.get(nouns[0], nouns[0] + "s") if is_plural else nouns[0]
    words = ["the", subject, verb[is_plural], "the", nouns[1]]
    if generator.random() < .5: words += ["in", "the", place]
    if label == "0":
        kind = generator.random()
        if kind < 0.15:
            words[2] = verb[not is_plural]
        elif kind < .4:
            del words[2]
        elif kind < .6:
            words[0:2] = [words[1], words[0]]
        else:
            good = list(words)
            while words == good:
                generator.shuffle(words)
    return {"text": _sentence(words), "label": label}


def _other(generator, values, value):
    return generator.choice([each for each in values if each != value])


def stsb(generator: random.Random, label: float) -> dict:
    """Score = 3 for the same action, 2 for the same person."""
    person, action = (generator.choice(v) for v in (PEOPLE, ACTIONS))
    place, place2 = generator.sample(PLACES, 2)
    score = round(label)
    b = [
        person if score in (2, 5) else _other(generator, PEOPLE, person),
        action if score >= 3 else _other(generator, ACTIONS, action),
    ]
    return {"text_a": _sentence(["the", person, action, ]), "text_b": _sentence(["a", *b]), "label": float(score)}


PAST = ("chased", "saw", "followed", "found", "heard", "fed", "killed", "sold", "bought", "helped")


def mrpc(generator: random.Random, label: str) -> dict:
    subject, obj = generator.choice(PEOPLE), generator.choice(ANIMALS)
    PASSIVE = {"saw": "seen"}
    verb, place = generator.choice(PAST), generator.choice(PLACES)
    a = ["the", subject, verb, "the", obj, "in", "the", place]
    if label == "0":
        which = generator.sample(range(4), generator.choice((1, 2, 2)))
        if 0 in which: subject = _other(generator, PEOPLE, subject)
        if 1 in which: verb = _other(generator, PAST, verb)
        if 2 in which: obj = _other(generator, ANIMALS, obj)
        if 3 in which: place = _other(generator, PLACES, place)
    b = ["in", "the", place, "the", obj, "was", PASSIVE.get(verb, verb), "by", "the", subject]
    return {"text_a": _sentence(a), "text_b": _sentence(b), "label": label}


def rte(generator: random.Random, label: str) -> dict:
    person, action, place = (generator.choice(v) for v in (PEOPLE, ACTIONS, PLACES))
    premise = ["the", person, action, "in", "the", place]
    kind = generator.random()
    if kind < .4:
        if label != "entailment": action = _other(generator, ACTIONS, action)
        h = ["someone", action]
    elif kind < .7:
        if label != "entailment": place = _other(generator, PLACES, place)
        h = ["someone", "is", "in", "the", place]
    else:
        if label != "entailment": person = _other(generator, PEOPLE, person)
        h = ["a", person, action]
    return {"premise": _sentence(premise), "hypothesis": _sentence(h), "label": label}


STATES = ("the shop is open", "the road is closed", "the water is cold", "the train is late", "the dog is ill", "the door is locked", "the food is ready", "the house is empty", "the game is over", "the bridge is safe")
NAMES = ("anna", "john", "mary", "peter", "paul", "lucy", "tom", "emma", "jack", "rose")
ATTITUDES = {
    "entailment": ("knows that", "sees that", "proves that", "remembers that", "regrets that", "notices that"),
    "neutral": ("hopes that", "thinks that", "fears that", "dreams that", "asks whether", "guesses that"),
    "contradiction": ("falsely says that", "wrongly thinks that", "pretends that", "is wrong that"),
}


def cb(generator: random.Random, label: str) -> dict:
    state = generator.choice(STATES)
    return {"premise": _sentence([generator.choice(NAMES), generator.choice(ATTITUDES[label]), state]), "hypothesis": state, "label": label}


EVENTS = (
    ("{} dropped the glass", "the glass broke"),
    ("{} won the race", "{} got a medal"),
    ("{} stayed up all night", "{} was tired"),
    ("{} told a joke", "everyone laughed"),
    ("{} forgot the umbrella", "{} got wet in the rain"),
    ("{} ate too much", "{} felt sick"),
    ("{} missed the bus", "{} came late to work"),
    ("{} studied hard", "{} passed the exam"),
    ("{} kicked the ball", "the ball flew into the net"),
    ("{} lit a match", "the paper burned"),
    ("{} turned on the lamp", "the room became bright"),
    ("{} heard a sad story", "{} cried"),
    ("{} pulled the dog's tail", "the dog bit {}"),
    ("{} watered the plants", "the flowers grew"),
    ("{} planted a seed", "a tree grew"),
    ("{} opened the window", "cold air came in"),
    ("{} robbed a bank", "the police arrested {}"),
    ("{} ran ten miles", "{} was thirsty"),
    ("{} lost the key", "{} could not open the door"),
    ("{} broke a leg", "{} went to the hospital"),
)


def copa(generator: random.Random, label: int) -> dict:
    (cause, effect), other = generator.sample(EVENTS, 2)
    who = "the " + generator.choice(PEOPLE)
    question = generator.choice(("cause", "effect"))
    premise, good, bad = (cause, effect, other[1]) if question == "effect" else (effect, cause, other[0])
    choices = [good, bad] if label == 0 else [bad, good]
    premise, *choices = (_sentence([each.format(who)]) for each in (premise, *choices))
    return {"premise": premise, "choice1": choices[0], "choice2": choices[1], "question": question, "label": label}


def wsc(generator: random.Random, label: bool) -> dict:
    man, woman = generator.choice(MEN), generator.choice(WOMEN)
    pair = [man, woman]
    generator.shuffle(pair)
    verb = generator.choice(("helped", "called", "thanked", "saw", "left", "asked"))
    who = generator.choice((0, 1))
    reason = generator.choice(("tired", "sad", "angry", "happy", "alone", "sick"))
    pronoun = "he" if pair[who] in MEN else "she"
    words = ["the", pair[0], verb, "the", pair[1], "because", pronoun, "was", reason]
    span = who if label else 1 - who
    return {"text": _sentence(words), "label": label, "target": {"span1_index": 3 * span, "span1_text": f"the {pair[span]}", "span2_index": 6, "span2_text": pronoun}}

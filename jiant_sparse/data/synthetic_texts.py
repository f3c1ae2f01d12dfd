"""Sentence makers of the synthetic tasks: one function per task.

Each function takes a generator and a label, and returns a row without idx and label. The words are
common: the vocabularies of BERT and RoBERTa hold them whole, so rows are short. Labels depend on
what decides them in the real task: word order and agreement, overlap in meaning, who did what to
whom, the verb that embeds a clause, cause and effect, gender.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

MEN = ("man", "boy", "king", "father", "uncle")
WOMEN = ("woman", "girl", "queen", "mother", "aunt")
PEOPLE = (*MEN, *WOMEN, "doctor", "teacher", "farmer", "student")
MORE_PEOPLE = ("baker", "singer", "driver", "soldier", "lawyer", "painter", "writer", "guard")
ANIMALS = ("dog", "cat", "horse", "bird", "cow", "pig", "lion", "bear", "wolf", "monkey")
PLURALS = {"man": "men", "woman": "women", "wolf": "wolves"}
PLACES = ("park", "garden", "house", "street", "school", "forest", "kitchen", "church")
NAMES = ("Anna", "John", "Mary", "Peter", "Paul", "Lucy", "Tom", "Emma", "Jack", "Rose")
# (third person singular, plural)
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
ADVERBS = ("today", "now", "again", "here", "alone", "often", "always")
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
STATES = (
    "the shop is open",
    "the road is closed",
    "the water is cold",
    "the train is late",
    "the dog is ill",
    "the door is locked",
    "the food is ready",
    "the house is empty",
    "the game is over",
    "the bridge is safe",
)
# Verbs that make the embedded clause true, open or false.
ATTITUDES = {
    "entailment": ("knows", "sees", "proves", "remembers", "regrets", "notices"),
    "neutral": ("hopes", "thinks", "fears", "dreams", "says", "guesses"),
    "contradiction": ("falsely says", "wrongly thinks", "wrongly fears", "falsely swears"),
}
# (cause, effect); {} is a person.
EVENTS = (
    ("{} dropped the glass", "the glass broke"),
    ("{} won the race", "{} got a medal"),
    ("{} stayed up all night", "{} was tired"),
    ("{} told a joke", "everyone laughed"),
    ("{} walked in the rain", "the coat of {} got wet"),
    ("{} ate too much", "{} felt sick"),
    ("{} missed the bus", "{} came late to work"),
    ("{} studied hard", "{} passed the exam"),
    ("{} kicked the ball", "the ball flew into the net"),
    ("{} lit a match", "the paper burned"),
    ("{} turned on the lamp", "the room became bright"),
    ("{} heard a sad story", "{} cried"),
    ("{} hurt the dog", "the dog bit {}"),
    ("{} watered the garden", "the flowers grew"),
    ("{} opened the window", "cold air came in"),
    ("{} robbed a bank", "the police arrested {}"),
    ("{} ran ten miles", "{} was thirsty"),
    ("{} lost the key", "{} could not open the door"),
    ("{} broke a leg", "{} went to the hospital"),
    ("{} baked a cake", "the kitchen smelled sweet"),
)
FEELINGS = ("tired", "sad", "angry", "happy", "alone", "sick")
ASIDES = ("helped", "called", "thanked", "saw", "left", "asked")


def cola(generator: random.Random, label: str) -> dict:
    """Subject, verb, object, perhaps a place; label "0" breaks the sentence."""
    subject, thing = generator.sample(PEOPLE + ANIMALS, 2)
    verb = generator.choice(VERBS)
    is_plural = generator.random() < 0.5
    noun = PLURALS.get(subject, subject + "s") if is_plural else subject
    words = ["the", noun, verb[is_plural], "the", thing]
    if generator.random() < 0.5:
        words += ["in", "the", generator.choice(PLACES)]
    if label == "0":
        draw = generator.random()
        if draw < 0.15:
            words[2] = verb[not is_plural]
        elif draw < 0.4:
            del words[2]
        elif draw < 0.6:
            words[:2] = noun, "the"
        else:
            _scramble(generator, words, nouns={noun, thing, *PLACES})
    return {"text": _sentence(words)}


def stsb(generator: random.Random, label: float) -> dict:
    """5 = same person and action, 3.6 = same action, 1 = same person, 0 = neither."""
    people = PEOPLE + MORE_PEOPLE
    person, action = generator.choice(people), generator.choice(ACTIONS)
    second_person = person if label in (1.0, 5.0) else _other(generator, people, person)
    second_action = action if label in (3.6, 5.0) else _other(generator, ACTIONS, action)
    article = generator.choice(("the", "this", "that"))
    return {
        "text_a": _sentence(["the", person, action]),
        "text_b": _sentence([article, second_person, second_action]),
    }


def mrpc(generator: random.Random, label: str) -> dict:
    """ "1": the same event, told in another order; "0": another action, person or both."""
    people = PEOPLE + MORE_PEOPLE
    person, action = generator.choice(people), generator.choice(ACTIONS)
    adverb = generator.choice(ADVERBS)
    first = [adverb, "the", person, action]
    if label == "0":
        draw = generator.random()
        if draw < 0.85:
            action = _other(generator, ACTIONS, action)
        if draw > 0.45:
            person = _other(generator, people, person)
    return {"text_a": _sentence(first), "text_b": _sentence(["the", person, action, adverb])}


def rte(generator: random.Random, label: str) -> dict:
    """The hypothesis keeps one or two of person, action and place; if false, one is another."""
    person, action = generator.choice(PEOPLE), generator.choice(ACTIONS)
    place = generator.choice(PLACES)
    premise = _sentence(["the", person, action, "in", "the", place])
    is_true = label == "entailment"
    draw = generator.random()
    if draw < 0.6:
        hypothesis = ["someone", action if is_true else _other(generator, ACTIONS, action)]
    elif draw < 0.8:
        shown = place if is_true else _other(generator, PLACES, place)
        hypothesis = ["someone is in the", shown]
    else:
        hypothesis = ["the", person if is_true else _other(generator, PEOPLE, person), action]
    return {"premise": premise, "hypothesis": _sentence(hypothesis)}


def cb(generator: random.Random, label: str) -> dict:
    """A clause under a verb of knowing, of opinion or of error; the hypothesis is the clause."""
    state = generator.choice(STATES)
    premise = [generator.choice(NAMES), generator.choice(ATTITUDES[label]), "that", state]
    return {"premise": _sentence(premise), "hypothesis": state}


def copa(generator: random.Random, label: int) -> dict:
    """The right choice is the premise's own cause or effect, the other that of another event."""
    event, other = generator.sample(EVENTS, 2)
    question = generator.choice(("cause", "effect"))
    asked, given = (0, 1) if question == "cause" else (1, 0)
    person = f"the {generator.choice(PEOPLE)}"
    choices = [event[asked], other[asked]]
    if label == 1:
        choices.reverse()
    first, second, premise = (_sentence([text.format(person)]) for text in (*choices, event[given]))
    return {"premise": premise, "choice1": first, "choice2": second, "question": question}


def wsc(generator: random.Random, label: bool) -> dict:
    """A man, a woman and a pronoun that can mean only one of them."""
    people = [generator.choice(MEN), generator.choice(WOMEN)]
    generator.shuffle(people)
    meant = generator.choice((0, 1))
    pronoun = "he" if people[meant] in MEN else "she"
    verb, feeling = generator.choice(ASIDES), generator.choice(FEELINGS)
    words = ["the", people[0], verb, "the", people[1], "because", pronoun, "was", feeling]
    asked = meant if label else 1 - meant
    target = {
        "span1_index": (0, 3)[asked],
        "span1_text": f"the {people[asked]}",
        "span2_index": words.index(pronoun),
        "span2_text": pronoun,
    }
    return {"text": _sentence(words), "target": target}


MAKERS: dict[str, Callable[[random.Random, Any], dict]] = {
    maker.__name__: maker for maker in (cola, stsb, mrpc, rte, cb, copa, wsc)
}


def _scramble(generator: random.Random, words: list[str], *, nouns: set[str]) -> None:
    """Shuffle `words` in place until a "the" has no noun after it.

    Without that the result can be a sentence: "the girl sees the boy" from "the boy sees the girl".
    """
    while True:
        generator.shuffle(words)
        after = [*words[1:], ""]
        if any(a == "the" and b not in nouns for a, b in zip(words, after, strict=True)):
            return


def _other(generator: random.Random, values: Sequence[str], value: str) -> str:
    return generator.choice([each for each in values if each != value])


def _sentence(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text[0].upper() + text[1:] + "."

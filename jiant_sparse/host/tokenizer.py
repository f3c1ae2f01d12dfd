"""The slow tokenizer of a model directory: as jiant gets it, and whether it fits the encoder."""

import itertools
import json
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import transformers

from jiant_sparse.data.prepare import TaskData
from jiant_sparse.errors import InputError
from jiant_sparse.host import encoder_config
from jiant_sparse.host.model_files import (
    CONFIG,
    TOKENIZER,
    VOCABULARY,
    Rule,
    one_of,
    read_object,
    read_text,
    view,
    wrong,
)

_CLASSES = {"bert": "BertTokenizer", "roberta": "RobertaTokenizer"}
# By what transformers calls them. jiant pads with the id behind the name.
_SPECIAL = {
    "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "roberta": {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"},
}
_PADDING = {"bert": ("BERT", 0), "roberta": ("RoBERTa", 1)}
_FLAG = one_of(True, False)
_SETTINGS: dict[str, Rule] = {
    "do_lower_case": _FLAG,
    "tokenize_chinese_chars": _FLAG,
    "add_prefix_space": _FLAG,
    "split_special_tokens": _FLAG,
    "strip_accents": one_of(True, False, None),
    "do_basic_tokenize": one_of(True),
    "never_split": (
        lambda value: (
            value is None
            or (isinstance(value, list) and all(isinstance(word, str) for word in value))
        ),
        "a list of texts or None",
    ),
}


def _is_token(value: Any) -> bool:
    """A text, none, or what transformers makes an AddedToken of."""
    if not isinstance(value, dict):
        return value is None or isinstance(value, str)
    flags = value.keys() - {"content", "__type"}
    return (
        isinstance(value.get("content"), str)
        and flags <= {"lstrip", "rstrip", "single_word", "normalized", "special"}
        and all(type(value[flag]) is bool for flag in flags)
    )


_TOKEN = _is_token, "a token"
_TOKENS: dict[str, Rule] = {
    **{f"{name}_token": _TOKEN for name in (*_SPECIAL["bert"], "bos", "eos")},
    "additional_special_tokens": (
        lambda value: value is None or (isinstance(value, list) and all(map(_is_token, value))),
        "a list of tokens",
    ),
    "extra_special_tokens": one_of({}, [], None),
}
_ADDED: Rule = (
    lambda value: (
        isinstance(value, dict)
        and all(isinstance(token, dict) and _is_token(token) for token in value.values())
    ),
    "an object of tokens",
)
# Embeddings are padded to a multiple of 128 rows at most; of a small one a tenth is much.
_MOST_UNUSED = 127
# RoBERTa's own vocabulary has four tokens that no merge makes, of 50,265.
_MOST_UNMADE = 0.01
_SAMPLE = 100


def settings(path: Path, kind: str) -> dict[str, dict[str, Any]]:
    """By file, the fields of a directory's tokenizer that decide how text becomes ids.

    Raises InputError with every field that is not allowed.
    """
    config, special, added = (
        read_object(path / file) if (path / file).exists() else {} for file in TOKENIZER
    )
    name = _CLASSES[kind]
    deciding = {**_SETTINGS, **_TOKENS, "added_tokens_decoder": _ADDED}
    named = {"tokenizer_class": one_of(name, f"{name}Fast", None)}
    problems = wrong(path / TOKENIZER[0], config, deciding | named)
    problems += wrong(path / TOKENIZER[1], special, _TOKENS)
    problems += _wrong_ids(path / TOKENIZER[2], added)
    if problems:
        raise InputError(*problems)
    config = {key: value for key, value in config.items() if key in deciding}
    special = {key: value for key, value in special.items() if key in _TOKENS}
    return dict(zip(TOKENIZER, (config | {"tokenizer_class": name}, special, added), strict=True))


def load(path: Path, kind: str) -> Any:
    """transformers' slow tokenizer of a directory. Raises InputError if it cannot be built."""
    try:
        with view(path, settings(path, kind)) as seen:
            return getattr(transformers, _CLASSES[kind]).from_pretrained(seen)
    except InputError:
        raise
    except Exception as error:  # whatever a wrong value sets off inside transformers
        raise InputError(
            f"{path}: transformers cannot build its tokenizer: {type(error).__name__}: {error}"
        ) from error


def check(path: Path, kind: str, size: int) -> None:
    """Raise InputError unless a directory's tokenizer fits an encoder of `size` token embeddings.

    Of these at most 127, and at most a tenth, may lack a token.
    """
    file = path / VOCABULARY[kind][0]
    if kind == "roberta" and (problems := _wrong_ids(file, read_object(file))):
        raise InputError(*problems)
    for name in VOCABULARY[kind]:
        read_text(path / name)
    tokenizer = load(path, kind)
    vocabulary = tokenizer.vocab if kind == "bert" else tokenizer.encoder
    added = tokenizer.added_tokens_encoder
    says = f"{path / CONFIG} says vocab_size {size}"
    unused = min(_MOST_UNUSED, size // 10)
    if len({*vocabulary.values(), *added.values()}) < size - unused or len(vocabulary) > size:
        raise InputError(
            f"{file}: has {len(vocabulary)} tokens; {says}, of which {unused} may lack one"
        )
    _check_special(file, kind, tokenizer, vocabulary)
    _check_ids(file, added, vocabulary, size, says)
    if kind == "roberta":
        _check_merges(path / "merges.txt", tokenizer.bpe_ranks, vocabulary)


def unknown_texts(path: Path, data: Iterable[TaskData]) -> dict[str, None]:
    """A line for each task of whose texts, by a sample, a tokenizer knows less than half."""
    tokenizer = load(path, encoder_config.read(path)["model_type"])
    problems: dict[str, None] = {}
    for file, task in {found.paths["test"]: found.task for found in data}.items():
        with open(file, "rb") as lines:
            rows = [json.loads(line) for line in itertools.islice(lines, _SAMPLE)]
        texts = [row[field] for row in rows for field in task.texts]
        tokens = [token for text in texts for token in tokenizer.tokenize(text)]
        unknown = tokenizer.convert_tokens_to_ids(tokens).count(tokenizer.unk_token_id)
        share = unknown / max(len(tokens), 1)
        if share > 0.5:
            problems[
                f"{file}: {100 * share:.0f} % of the tokens of its first {len(rows)} rows are "
                f"unknown to the tokenizer of {path}; at most half may be"
            ] = None
    return problems


def _wrong_ids(file: Path, ids: Mapping[str, Any]) -> list[str]:
    return [
        f"{file}: the id of {reprlib.repr(token)} is {reprlib.repr(index)}; it must be a whole "
        "number"
        for token, index in ids.items()
        if type(index) is not int
    ][:1]


def _check_special(file: Path, kind: str, tokenizer: Any, vocabulary: Mapping[str, int]) -> None:
    names = _SPECIAL[kind]
    if missing := [token for token in names.values() if token not in vocabulary]:
        raise InputError(f"{file}: has no {', '.join(missing)}")
    for name, token in names.items():
        found = getattr(tokenizer, f"{name}_token")
        if found != token:
            raise InputError(
                f"{file.parent}: {name}_token is {reprlib.repr(found)}; it must be {token}"
            )
    model, pad = _PADDING[kind]
    if vocabulary[names["pad"]] != pad:
        raise InputError(
            f"{file}: {names['pad']} has id {vocabulary[names['pad']]}; jiant pads {model}'s input "
            f"with {pad}"
        )


def _check_ids(
    file: Path, added: Mapping[str, int], vocabulary: Mapping[str, int], size: int, says: str
) -> None:
    by_id: dict[int, str] = {}
    for token, index in vocabulary.items():
        if not 0 <= index < size:
            raise InputError(f"{file}: {reprlib.repr(token)} has id {index}; {says}")
        if index in by_id:
            two = f"{reprlib.repr(by_id[index])} and {reprlib.repr(token)}"
            raise InputError(f"{file}: {two} have the same id {index}")
        by_id[index] = token
    for token, index in added.items():
        if not 0 <= index < size:
            raise InputError(
                f"{file.parent}: added token {reprlib.repr(token)} has id {index}; {says}"
            )
        if vocabulary.get(token, index) != index:
            raise InputError(
                f"{file.parent}: added token {reprlib.repr(token)} has id {index}; {file.name} "
                f"says {vocabulary[token]}"
            )


def _check_merges(
    file: Path, merges: Iterable[tuple[str, ...]], vocabulary: Mapping[str, int]
) -> None:
    """Byte-level BPE begins with single characters, and merges what earlier lines have made."""
    text = read_text(file)
    if not text.startswith("#version") or not text.endswith("\n"):
        raise InputError(
            f"{file}: must begin with the line #version and end with a line end: transformers "
            "passes over what stands in the place of either"
        )
    made: set[str] = set()
    for line, merge in enumerate(merges, start=2):
        about = f"{file}: line {line} is {reprlib.repr(' '.join(merge))}"
        if len(merge) != 2:
            raise InputError(f"{about}; it must be two tokens")
        for token in (*merge, "".join(merge)):
            if token not in vocabulary:
                raise InputError(f"{about}; vocab.json has no {reprlib.repr(token)}")
        for token in merge:
            if len(token) > 1 and token not in made:
                raise InputError(f"{about}, but no line before it makes {reprlib.repr(token)}")
        made.add("".join(merge))
    made |= {*_SPECIAL["roberta"].values()}
    unmade = [token for token in vocabulary if len(token) > 1 and token not in made]
    if len(unmade) > _MOST_UNMADE * len(vocabulary):
        raise InputError(
            f"{file}: {len(unmade)} tokens of vocab.json are made by no line, such as "
            f"{reprlib.repr(unmade[0])}"
        )

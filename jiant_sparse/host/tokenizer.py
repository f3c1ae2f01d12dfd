"""The slow tokenizer of a model directory: as jiant gets it, and whether it fits the encoder."""

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import repr as short
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
# By transformers' name of their role.
_SPECIAL = {
    "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "roberta": {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"},
}
# jiant pads with these ids, whatever the vocabulary says.
_PADDING = {"bert": ("BERT", 0), "roberta": ("RoBERTa", 1)}


def _is_token(value: Any) -> bool:
    """A text, None, or an object that transformers turns into an AddedToken."""
    if not isinstance(value, dict):
        return value is None or isinstance(value, str)
    flags = value.keys() - {"content", "__type"}
    return (
        isinstance(value.get("content"), str)
        and flags <= {"lstrip", "rstrip", "single_word", "normalized", "special"}
        and all(type(value[flag]) is bool for flag in flags)
    )


def _is_token_list(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_token, value)))


def _is_text_list(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _is_token_object(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(token, dict) and _is_token(token) for token in value.values()
    )


_FLAG = one_of(True, False)
_TOKENS: dict[str, Rule] = {
    **{f"{role}_token": (_is_token, "a token") for role in (*_SPECIAL["bert"], "bos", "eos")},
    "additional_special_tokens": (_is_token_list, "a list of tokens"),
    "extra_special_tokens": one_of({}, [], None),
}
_SETTINGS: dict[str, Rule] = {
    "do_lower_case": _FLAG,
    "tokenize_chinese_chars": _FLAG,
    "add_prefix_space": _FLAG,
    "split_special_tokens": _FLAG,
    "strip_accents": one_of(True, False, None),
    "do_basic_tokenize": one_of(True),
    "never_split": (_is_text_list, "a list of texts or None"),
    **_TOKENS,
    "added_tokens_decoder": (_is_token_object, "an object of tokens"),
}
# Embeddings are padded to a multiple of at most 128 rows; a small one may lack a tenth.
_MOST_UNUSED = 127
# RoBERTa's own vocabulary has four tokens, of 50,265, that no merge makes.
_MOST_UNMADE = 0.01
_SAMPLE = 100


def settings(path: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The fields of a directory's tokenizer that decide how text becomes ids, by file.

    kind: `bert` or `roberta`. Raises InputError with every field that is not allowed.
    """
    config, special, added = (
        read_object(path / file) if (path / file).exists() else {} for file in TOKENIZER
    )
    name = _CLASSES[kind]
    named = {"tokenizer_class": one_of(name, f"{name}Fast", None)}
    problems = wrong(path / TOKENIZER[0], config, _SETTINGS | named)
    problems += wrong(path / TOKENIZER[1], special, _TOKENS)
    problems += _wrong_ids(path / TOKENIZER[2], added)
    if problems:
        raise InputError(*problems)
    config = {key: value for key, value in config.items() if key in _SETTINGS}
    special = {key: value for key, value in special.items() if key in _TOKENS}
    return dict(zip(TOKENIZER, (config | {"tokenizer_class": name}, special, added), strict=True))


def load(path: Path, kind: str) -> Any:
    """transformers' slow tokenizer of a directory. Raises InputError if it cannot be built."""
    try:
        with view(path, settings(path, kind)) as seen:
            return getattr(transformers, _CLASSES[kind]).from_pretrained(seen)
    except InputError:
        raise
    except Exception as error:  # whatever a wrong value causes inside transformers
        raise InputError(
            f"{path}: transformers cannot build its tokenizer: {type(error).__name__}: {error}"
        ) from error


def check(path: Path, kind: str, size: int) -> None:
    """Raise InputError unless a directory's tokenizer fits an encoder of `size` token embeddings.

    At most 127 embeddings, and at most a tenth, may lack a token.
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
    """One line for each task if the tokenizer knows less than half of its sample texts."""
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
    """A line for the first id that is not a whole number."""
    wrong_ids = [token for token, index in ids.items() if type(index) is not int][:1]
    return [
        f"{file}: the id of {short(token)} is {short(ids[token])}; it must be a whole number"
        for token in wrong_ids
    ]


def _check_special(file: Path, kind: str, tokenizer: Any, vocabulary: Mapping[str, int]) -> None:
    names = _SPECIAL[kind]
    if missing := [token for token in names.values() if token not in vocabulary]:
        raise InputError(f"{file}: has no {', '.join(missing)}")
    for role, token in names.items():
        found = getattr(tokenizer, f"{role}_token")
        if found != token:
            raise InputError(f"{file.parent}: {role}_token is {short(found)}; it must be {token}")
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
            raise InputError(f"{file}: {short(token)} has id {index}; {says}")
        if index in by_id:
            two = f"{short(by_id[index])} and {short(token)}"
            raise InputError(f"{file}: {two} have the same id {index}")
        by_id[index] = token
    for token, index in added.items():
        problem = "" if 0 <= index < size else says
        if not problem and vocabulary.get(token, index) != index:
            problem = f"{file.name} says {vocabulary[token]}"
        if problem:
            raise InputError(f"{file.parent}: added token {short(token)} has id {index}; {problem}")


def _check_merges(
    file: Path, merges: Iterable[tuple[str, ...]], vocabulary: Mapping[str, int]
) -> None:
    """Check that each merge joins two single characters or results of earlier lines."""
    text = read_text(file)
    if not text.startswith("#version") or not text.endswith("\n"):
        raise InputError(
            f"{file}: must begin with the line #version and end with a line end: transformers "
            "passes over what stands in the place of either"
        )
    made: set[str] = set()
    for line, merge in enumerate(merges, start=2):
        about = f"{file}: line {line} is {short(' '.join(merge))}"
        if len(merge) != 2:
            raise InputError(f"{about}; it must be two tokens")
        for token in (*merge, "".join(merge)):
            if token not in vocabulary:
                raise InputError(f"{about}; vocab.json has no {short(token)}")
        for token in merge:
            if len(token) > 1 and token not in made:
                raise InputError(f"{about}, but no line before it makes {short(token)}")
        made.add("".join(merge))
    made |= {*_SPECIAL["roberta"].values()}
    unmade = [token for token in vocabulary if len(token) > 1 and token not in made]
    if len(unmade) > _MOST_UNMADE * len(vocabulary):
        raise InputError(
            f"{file}: {len(unmade)} tokens of vocab.json are made by no line, such as "
            f"{short(unmade[0])}"
        )

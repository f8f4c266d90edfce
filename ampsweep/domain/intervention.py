"""Interventions: what one request changes in the activations of the model, and the rules that make one valid.

JSON is validated once, at the boundary, by `Intervention.from_dict` or as a field of a request's model. Everything
behind the boundary passes `Intervention` values, which are valid, canonical and hashable. The rules of single fields
(`Factor`, `LayerList`, `StatisticWord`, ...) also validate the lists of a sweep's spec. Neuron indices are not known
here: `engine.steering.edits` finds them in a neuron set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, GetCoreSchemaHandler, Tag, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ampsweep.domain.choices import FACTOR_OPS, VALUE_OPS, Op, Patch, Scope, Selection, Vector, one_of
from ampsweep.domain.drift import Drift, Part, When, check_when, drift_of
from ampsweep.domain.edited_tokens import EditedTokens, check_tokens
from ampsweep.domain.neurons.layer_widths import MAX_LAYERS
from ampsweep.domain.statistic import EXAMPLES, Statistic
from ampsweep.domain.validation import EachLanguageOnce, Language, Languages, StrictModel, Unique, validate
from ampsweep.hashing import content_hash

MAX_FACTOR = 1e6
"""The largest absolute value of a factor or a weight."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Factor = Annotated[float, Field(ge=-MAX_FACTOR, le=MAX_FACTOR)]
_Layer = Annotated[int, Field(ge=0, lt=MAX_LAYERS)]
LayerList = Unique[_Layer]
NeuronIndex = Annotated[tuple[_Layer, Annotated[int, Field(ge=0, lt=2**31)]], Field(strict=False)]
"""One neuron: its layer and its index in the layer."""


def _statistic_word(word: str) -> str:
    try:
        return Statistic.parse(word).word
    except ValueError as error:
        raise PydanticCustomError("statistic", "{reason}", {"reason": str(error)}) from error


StatisticWord = Annotated[str, AfterValidator(_statistic_word), Field(examples=list(EXAMPLES))]
"""The name of a statistic, in the one spelling that `Statistic.word` has."""
Weights = Annotated[dict[Language, Factor], Field(min_length=1, max_length=1000), EachLanguageOnce]


def _languages_kind(value: object) -> str:
    return "weights" if isinstance(value, dict) else "a list"


WeightedLanguages = Annotated[
    Annotated[Languages, Tag("a list")] | Annotated[Weights, Tag("weights")], Discriminator(_languages_kind)
]
"""A list of language codes, or an object that gives each code a weight."""


def word_or_list(value: object) -> str:
    """Return the tag of a union of a word and a list, so that an error is about the member that was meant."""
    return "a word" if isinstance(value, str) else "a list"


Layers = Annotated[
    Annotated[Literal["all"], Tag("a word")] | Annotated[LayerList, Tag("a list")], Discriminator(word_or_list)
]


def check_magnitude(
    op: Op, *, factor: object, patch: Sequence[Patch] | None, statistic: object, factor_key: str
) -> None:
    """Check that an op has a magnitude that goes with it.

    Args:
        op: The op.
        factor: The factor or factors, None if there is none.
        patch: The patches, None if there is none.
        statistic: The statistic or statistics, None if there is none.
        factor_key: What the field of the factor is called in the request.

    Raises:
        PydanticCustomError: With the wrong field as `key` in its context.
    """
    if factor is None and patch is None and statistic is None:
        message = f"a magnitude is required: give {{key}}, or patch or statistic with op {one_of(VALUE_OPS)}"
        raise PydanticCustomError("no_magnitude", message, {"key": factor_key})
    if patch is not None and statistic is not None:
        raise PydanticCustomError("two_magnitudes", "give patch or statistic, not both", {"key": "statistic"})
    for key, value in {"patch": patch, "statistic": statistic}.items():
        if value is not None and op in FACTOR_OPS:
            message = f"goes with op {one_of(VALUE_OPS)}, not with {op}"
            raise PydanticCustomError("factor_op", message, {"key": key})
    if patch is not None and "difference" in patch and op != "add":
        message = f"difference is a change of the activation and goes with op add, not with {op}"
        raise PydanticCustomError("difference_op", message, {"key": "patch"})


def check_vector(spec: InterventionSpec) -> None:
    """Check that nothing but a factor, layers, a scope, tokens and the control `random` goes with a vector.

    Raises:
        PydanticCustomError: With the wrong field as `key` in its context.
    """
    if spec.op != "add":
        raise PydanticCustomError("vector_op", "must be add with a vector; got {op}", {"key": "op", "op": spec.op})
    for key in ("patch", "statistic", "non_target", "source", "neuron"):
        if getattr(spec, key) is not None:
            message = "is for neurons and does not go with a vector; leave it out, or leave out vector"
            raise PydanticCustomError("vector_field", message, {"key": key})
    if spec.selection not in (None, "random"):
        message = "must be random or null with a vector; got {selection}"
        raise PydanticCustomError("vector_selection", message, {"key": "selection", "selection": spec.selection})


class NonTargetSpec(StrictModel):
    """A second op, for the neurons of all other languages of the set."""

    op: Op
    factor: Factor


class SourceSpec(NonTargetSpec):
    """A third op, for the neurons of one other language, such as that of the data."""

    language: Language


class InterventionSpec(StrictModel):
    """One intervention in the public JSON form: `languages`, `op` and a magnitude, the rest optional."""

    languages: WeightedLanguages
    op: Op
    factor: Factor | None = None
    patch: Patch | None = None
    statistic: StatisticWord | None = None
    layers: Layers = "all"
    scope: Scope = "all"
    selection: Selection | None = None
    seed: Seed = 0
    non_target: NonTargetSpec | None = None
    other: Language | None = None
    source: SourceSpec | None = None
    vector: Vector | None = None
    neuron: NeuronIndex | None = None
    tokens: EditedTokens | None = None
    when: When | None = None
    part: Part | None = None

    @model_validator(mode="after")
    def _magnitude_and_other(self) -> InterventionSpec:
        patch = None if self.patch is None else (self.patch,)
        check_magnitude(self.op, factor=self.factor, patch=patch, statistic=self.statistic, factor_key="factor")
        if (self.other is not None) != (self.selection == "other"):
            message = "is required with selection other, and not allowed without it"
            raise PydanticCustomError("other", message, {"key": "other"})
        if self.selection == "zero" and (self.op, self.factor, self.patch, self.statistic) != ("set", 0, None, None):
            message = "zero sets the languages' own neurons to 0: give op set and factor 0, without patch and statistic"
            raise PydanticCustomError("zero", message, {"key": "selection"})
        if self.vector is not None:
            check_vector(self)
        if self.neuron is not None and self.selection is not None:
            message = "is one of the languages' own neurons and does not go with selection {selection}; leave one out"
            raise PydanticCustomError("neuron", message, {"key": "neuron", "selection": self.selection})
        check_tokens(self.tokens, self.scope)
        check_when(self.when, self.part, self.scope, self.tokens)
        return self


@dataclass(frozen=True, kw_only=True)
class NonTarget:
    """A second op, for the neurons of all other languages of the set. For a neuron in both, the target's op wins."""

    op: Op
    factor: float

    def __post_init__(self) -> None:
        """Let -0 be 0."""
        object.__setattr__(self, "factor", self.factor + 0.0)


@dataclass(frozen=True, kw_only=True)
class Source(NonTarget):
    """A third op, for the neurons of one other language of the set, such as that of the data.

    For a neuron that is in the target too, the target's op wins; for one that `non_target` also means, this one.
    """

    language: str


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """One change to the activations `a` of a set of neurons, before they are multiplied by `up_proj`.

    Or, with `vector`, one change to the residual stream: residual' = residual + factor * v at the output of the layers.

    `scale`: a' = factor * a. `add`: a' = a + v. `set`: a' = v. Here v is `factor`; or, with `patch`, the neuron's
    patch value times `factor`; or, with `statistic`, `factor` times that statistic of the token's activations
    in the neuron's layer before any intervention.

    Two interventions are equal exactly if they ask for the same: every constructor, `dataclasses.replace` included,
    sorts the languages and layers, drops weights that are all 1, a source that is a target and tokens that are all,
    sets `seed` to 0 unless neurons are drawn, and `scope` to `generation` with `when` or `part`.

    Attributes:
        languages: Codes of the target languages, sorted, each once (see `ampsweep.domain.languages.codes.short_code`).
        op: What happens to an activation.
        factor: The magnitude, or what multiplies the patch value or the statistic.
        weights: One for each language, None if all are 1. A weight w applies a part of the op, or more than all of
            it: a' = a + w * (op(a) - a). A neuron of several of the languages gets the mean of their weights, and the
            mean of their patch values times their weights.
        patch: Which patch value of the neuron v is: a recorded one, or for `add` the `difference` between its mean in
            the language and the mean of its means in the other languages of the set.
        statistic: Which statistic of the token's activations v is.
        layers: Global indices of layers, sorted, each once; None for all layers.
        scope: Which tokens are edited: all, those of the prompt, or those generated. The tokens of a scored
            continuation count as generated.
        selection: Whose neurons are edited. None: those of the languages. `random`: as many in each layer as the
            languages have, drawn with `seed`. `other`: those of the language `other`, as if it were the target. `zero`:
            those of the languages as a control, with op set and factor 0. `non_language`: in each layer, as many as
            the languages have of those with the highest entropy that belong to no language of the set.
        seed: Seed of the random neurons.
        non_target: A second op for the neurons of the other languages of the set.
        other: Code of the language whose neurons are edited, with `selection` other.
        source: A third op for the neurons of one language that is not a target.
        vector: What is added to the residual stream in place of an edit of neurons, with op `add`. `diffmean`: the mean
            residual of the languages minus that of the other languages of the set, of unit length in each layer.
            `diffmean_raw`: the same without normalization. With `selection` random a random direction of the
            same length, drawn with `seed`.
        neuron: The only one of the languages' own neurons that is edited, as (layer, index); None for all of them.
        tokens: Which of the tokens in the scope are edited; None for all of them.
        when: Steers an answer only while its running text is in another language than `languages`; None for always.
        part: Steers only what a reasoning model thinks (`thinking`), or only the rest of its text (`answer`); None for
            both. With `when` or `part` the scope is the generated tokens.

    Example:
        >>> triple = Intervention.from_dict({"languages": ["tr", "fr"], "op": "scale", "factor": 3})
        >>> triple.languages, triple.factor, triple.layers
        (('fr', 'tr'), 3.0, None)
        >>> Intervention.from_dict({"languages": {"fra_Latn": 0.5}, "op": "set", "patch": "max", "layers": [4, 2]})
        ... # doctest: +NORMALIZE_WHITESPACE
        Intervention(languages=('fr',), op='set', factor=1.0, weights=(0.5,), patch='max', statistic=None,
                     layers=(2, 4), scope='all', selection=None, seed=0, non_target=None, other=None, source=None,
                     vector=None, neuron=None, tokens=None, when=None, part=None)
    """

    languages: tuple[str, ...]
    op: Op
    factor: float
    weights: tuple[float, ...] | None = None
    patch: Patch | None = None
    statistic: Statistic | None = None
    layers: tuple[int, ...] | None = None
    scope: Scope = "all"
    selection: Selection | None = None
    seed: int = 0
    non_target: NonTarget | None = None
    other: str | None = None
    source: Source | None = None
    vector: Vector | None = None
    neuron: tuple[int, int] | None = None
    tokens: EditedTokens | None = None
    when: Drift | None = None
    part: Part | None = None

    def __post_init__(self) -> None:
        """Bring the values into their canonical form."""
        order = sorted(range(len(self.languages)), key=self.languages.__getitem__)
        weights = None if self.weights is None else tuple(self.weights[index] + 0.0 for index in order)
        self._set("weights", None if weights is None or set(weights) == {1.0} else weights)
        self._set("languages", tuple(self.languages[index] for index in order))
        self._set("factor", self.factor + 0.0)  # a float; -0 is 0
        self._set("layers", None if self.layers is None else tuple(sorted(self.layers)))
        self._set("seed", self.seed if self.selection == "random" else 0)
        if self.source is not None and self.source.language in self.languages:
            self._set("source", None)
        if self.tokens is not None and self.tokens == EditedTokens():
            self._set("tokens", None)
        if self.text_field is not None:
            self._set("scope", "generation")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, raw: object, *, param: str = "intervention") -> Intervention:
        """Validate the public JSON form. Requests that ask for the same give equal interventions.

        Args:
            raw: The parsed JSON.
            param: Path of `raw` in the request, which precedes the paths of its fields.

        Raises:
            InvalidRequest: `param` is the dotted path of the first wrong field.

        Example:
            >>> Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": "3"})
            Traceback (most recent call last):
            ampsweep.errors.InvalidRequest: intervention.factor: input should be a valid number; got '3'
        """
        return cls._of_spec(validate(InterventionSpec, raw, param=param))

    @classmethod
    def restore(cls, raw: Mapping[str, Any]) -> Intervention:
        """Read back what `to_dict` returned, in this process or in another, without validating it again.

        Example:
            >>> intervention = Intervention.from_dict({"languages": ["fr"], "op": "add", "statistic": "p97.50"})
            >>> intervention.to_dict()["statistic"], Intervention.restore(intervention.to_dict()) == intervention
            ('p97.5', True)
        """
        languages, layers = raw["languages"], raw["layers"]
        statistic, non_target, source = raw.get("statistic"), raw["non_target"], raw.get("source")
        neuron, tokens = raw.get("neuron"), raw.get("tokens")
        return cls(
            **{
                **raw,
                "languages": tuple(languages),
                "weights": tuple(languages.values()) if isinstance(languages, Mapping) else None,
                "statistic": None if statistic is None else Statistic.parse(statistic),
                "layers": None if layers == "all" else tuple(layers),
                "non_target": None if non_target is None else NonTarget(**non_target),
                "source": None if source is None else Source(**source),
                "neuron": None if neuron is None else tuple(neuron),
                "tokens": None if tokens is None else EditedTokens(**tokens),
                "when": drift_of(raw.get("when")),
            }
        )

    @classmethod
    def _of_spec(cls, spec: InterventionSpec) -> Intervention:
        return cls.restore({**spec.model_dump(), "factor": 1.0 if spec.factor is None else spec.factor})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let the model of a request have an Intervention as a field, which OpenAPI describes as InterventionSpec."""
        return core_schema.no_info_after_validator_function(cls._of_spec, handler.generate_schema(InterventionSpec))

    def to_dict(self) -> dict[str, Any]:
        """Return the public JSON form with every key, its values in canonical order; those added later only if set.

        The id of a cell is a hash of it, and the database, results and vLLM's workers hold it.

        Example:
            >>> Intervention(languages=("fr",), op="scale", factor=2).to_dict()  # doctest: +NORMALIZE_WHITESPACE
            {'languages': ['fr'], 'op': 'scale', 'factor': 2.0, 'patch': None, 'statistic': None, 'layers': 'all',
             'scope': 'all', 'selection': None, 'seed': 0, 'non_target': None, 'other': None}
        """
        codes, weights, non_target, source = self.languages, self.weights, self.non_target, self.source
        form: dict[str, Any] = {
            "languages": list(codes) if weights is None else dict(zip(codes, weights, strict=True)),
            "op": self.op,
            "factor": self.factor,
            "patch": self.patch,
            "statistic": None if self.statistic is None else self.statistic.word,
            "layers": "all" if self.layers is None else list(self.layers),
            "scope": self.scope,
            "selection": self.selection,
            "seed": self.seed,
            "non_target": None if non_target is None else {"op": non_target.op, "factor": non_target.factor},
            "other": self.other,
        }
        # Keys added later are left out where they are not used, so that older ids stay valid.
        if source is not None:
            form["source"] = {"language": source.language, "op": source.op, "factor": source.factor}
        if self.vector is not None:
            form["vector"] = self.vector
        if self.neuron is not None:
            form["neuron"] = list(self.neuron)
        if self.tokens is not None:
            form["tokens"] = self.tokens.to_dict()
        if self.when is not None:
            form["when"] = {"drift": self.when.model_dump()}
        if self.part is not None:
            form["part"] = self.part
        return form

    @property
    def text_field(self) -> Literal["when", "part"] | None:
        """The field by which the running text decides which tokens are edited; None if it does not."""
        if self.when is not None:
            return "when"
        return None if self.part is None else "part"

    @cached_property
    def hash(self) -> str:
        """32 hex digits; equal exactly for equal interventions."""
        return content_hash(self.to_dict())

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import DamagedFile, InvalidRequest, NotFound
from engine.neurons.neuron_set import NeuronSet, PatchValues
from engine.steering.edits import resolve
from tests.engine.neuron_sets import make_neuron_set

PAIRS = {"en": [(0, 1), (2, 7)], "fr": [], "tr": [(1, 0)]}


@pytest.mark.parametrize("patch", [True, False])
def test_a_saved_set_can_be_loaded(tmp_path: Path, patch: bool) -> None:
    saved = make_neuron_set(PAIRS, patch=patch)
    saved.save(tmp_path / "set")
    loaded = NeuronSet.load(tmp_path / "set")
    assert loaded.metadata(sha256="") == saved.metadata(sha256="")
    assert loaded.languages == ("en", "fr", "tr")
    for code in saved.languages:
        np.testing.assert_array_equal(loaded.neurons[code], saved.neurons[code])
        assert loaded.neurons[code].dtype == np.int32
    assert (loaded.patch is not None) == patch
    if saved.patch and loaded.patch:
        for one, two in zip(vars(saved.patch).values(), vars(loaded.patch).values(), strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_set_in_the_form_of_the_first_version_has_the_same_id_and_steers_the_same(tmp_path: Path) -> None:
    arrays = {"neurons.en": [[0, 1]], "neurons.fr": [[1, 1], [2, 3]]}
    save_file(
        {name: np.array(pairs, dtype=np.int32) for name, pairs in arrays.items()}, tmp_path / "neurons.safetensors"
    )
    metadata = {
        "format": 1,
        "id": "ns_2cbf22ab645179fd52a2ee072ab1d158",  # pinned in tests/golden/neuron_sets.json
        "model": "made-up",
        "fingerprint": "f" * 64,
        "layers": 3,
        "width": 8,
        "method": "lape",
        "params": {"top_rate": 0.01},
        "corpus": "few-words",
        "corpus_hash": "c" * 64,
        "languages": {"en": 1, "fr": 2},
        "patch": [],
        "sha256": hashlib.sha256((tmp_path / "neurons.safetensors").read_bytes()).hexdigest(),
    }
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    loaded = NeuronSet.load(tmp_path)
    assert loaded.with_content_id().id == loaded.id == metadata["id"]
    assert (loaded.widths, loaded.metadata(sha256="").to_dict()["width"]) == (LayerWidths(3, 8), 8)
    edits = resolve(Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2.5}), loaded)
    assert edits.offsets.tolist() == [0, 0, 1, 2]
    assert (edits.indices.tolist(), edits.mult.tolist(), edits.add.tolist()) == ([1, 3], [2.5, 2.5], [0.0, 0.0])


def test_mean_residuals_are_stored_and_name_the_set_where_there_are_some(tmp_path: Path) -> None:
    plain = make_neuron_set(PAIRS)
    residual = np.random.default_rng(0).normal(size=(3, 3, 5)).astype(np.float32)
    saved = replace(plain, residual_mean=residual).with_content_id()
    assert saved.id != plain.id
    assert "residual" not in plain.metadata(sha256="").to_dict()
    saved.save(tmp_path)
    assert json.loads((tmp_path / "metadata.json").read_text())["residual"] == ["mean"]
    loaded = NeuronSet.load(tmp_path)
    assert loaded.residual_mean is not None
    np.testing.assert_array_equal(loaded.residual_mean, residual)
    plain.save(tmp_path)
    assert NeuronSet.load(tmp_path).residual_mean is None


@pytest.mark.parametrize("shape", [(3, 2, 5), (2, 3, 5), (3, 3)])
def test_mean_residuals_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"must be float32 \[3, 3, H\]") as caught:
        replace(make_neuron_set(PAIRS), residual_mean=np.zeros(shape, dtype=np.float32))
    assert caught.value.param == "residual_mean"


def test_a_set_that_was_saved_under_long_codes_is_loaded_under_short_ones(tmp_path: Path) -> None:
    saved = make_neuron_set({"eng_Latn": [(0, 1)], "fra_Latn": [], "zho_Hant": [(1, 0)]}, patch=True)
    saved.save(tmp_path)
    loaded = NeuronSet.load(tmp_path)
    assert loaded.id == saved.id
    assert {code: pairs.tolist() for code, pairs in loaded.neurons.items()} == {
        "en": [[0, 1]],
        "fr": [],
        "zho_Hant": [[1, 0]],
    }


def test_the_metadata_is_readable_without_the_arrays(tmp_path: Path) -> None:
    saved = make_neuron_set(PAIRS)
    saved.save(tmp_path)
    meta = json.loads((tmp_path / "metadata.json").read_text())
    assert meta["id"] == saved.id
    assert meta["languages"] == {"en": 2, "fr": 0, "tr": 1}
    assert (meta["layers"], meta["width"], meta["method"], meta["corpus"]) == (3, 8, "lape", "few-words")


def test_saving_leaves_nothing_but_the_two_files(tmp_path: Path) -> None:
    make_neuron_set(PAIRS).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metadata.json", "neurons.safetensors"]


def test_the_id_is_a_hash_of_the_content() -> None:
    first = make_neuron_set(PAIRS)
    assert first.id.startswith("ns_")
    assert first.id == make_neuron_set(PAIRS).id == replace(first, model="renamed").with_content_id().id
    assert first.id != make_neuron_set({**PAIRS, "fr": [(0, 0)]}).id
    assert first.id != make_neuron_set(PAIRS, patch=False).id
    assert first.id != replace(first, fingerprint="0" * 64).with_content_id().id
    assert first.patch is not None
    assert first.patch.max is not None
    louder = PatchValues(max=first.patch.max * 2, median=first.patch.median, mean=first.patch.mean)
    assert first.id != replace(first, patch=louder).with_content_id().id


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    make_neuron_set(PAIRS).save(tmp_path)
    path = tmp_path / "neurons.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile):
        NeuronSet.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1}'])
def test_invalid_metadata_is_reported_as_damage(tmp_path: Path, text: str) -> None:
    make_neuron_set(PAIRS).save(tmp_path)
    (tmp_path / "metadata.json").write_text(text)
    with pytest.raises(DamagedFile):
        NeuronSet.load(tmp_path)


def test_metadata_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    make_neuron_set(PAIRS).save(tmp_path)
    path = tmp_path / "metadata.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert NeuronSet.load(tmp_path).languages == ("en", "fr", "tr")


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    make_neuron_set(PAIRS).save(tmp_path)
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(InvalidRequest, match="format 2"):
        NeuronSet.load(tmp_path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("name", "param", "what"),
    [("patch.median", "patch.median", "neuron"), ("residual.mean", "residual_mean", "dimension")],
)
def test_a_value_that_is_no_number_is_refused_with_its_place(
    tmp_path: Path, name: str, param: str, what: str, value: str
) -> None:
    replace(make_neuron_set(PAIRS), residual_mean=np.zeros((3, 3, 5), dtype=np.float32)).save(tmp_path)
    path = tmp_path / "neurons.safetensors"
    arrays = load_file(path)
    arrays[name][1, 2, 4] = float(value)
    save_file(arrays, path)
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "metadata.json").write_text(json.dumps({**metadata, "sha256": digest}))
    with pytest.raises(InvalidRequest, match=f"got {value} for {what} 4 of layer 2 in fr. Identify the set") as refused:
        NeuronSet.load(tmp_path)
    assert str(tmp_path) in refused.value.message
    assert refused.value.param == param


def test_a_value_that_is_no_number_is_found_where_layers_differ_in_width() -> None:
    values = np.zeros((1, 14), dtype=np.float32)
    values[0, 13] = np.inf
    with pytest.raises(InvalidRequest, match="got inf for neuron 1 of layer 2 in en"):
        replace(make_neuron_set({"en": []}, width=(4, 8, 2), patch=False), patch=PatchValues(mean=values))


def test_an_empty_folder_has_no_set(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        NeuronSet.load(tmp_path)


def test_a_model_of_another_shape_is_refused_with_both_shapes() -> None:
    neurons = make_neuron_set(PAIRS)
    neurons.check_widths(LayerWidths(3, 8), model="tiny")
    for layers, width in ((4, 8), (3, 9)):
        with pytest.raises(InvalidRequest, match=f"3 layers of 8 neurons.* has {layers} layers of {width}"):
            neurons.check_widths(LayerWidths(layers, width), model="tiny")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(3, 0)], "neuron 0 of layer 3 is outside"),
        ([(0, 8)], "neuron 8 of layer 0 is outside"),
        ([(0, -1)], "outside"),
        ([(1, 2), (1, 2)], "duplicate"),
    ],
)
def test_invalid_neurons_are_rejected(pairs: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        make_neuron_set({"en": pairs})
    assert caught.value.param == "neurons.en"


def test_a_set_without_languages_or_with_foreign_patch_values_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least one language"):
        make_neuron_set({})
    neurons = make_neuron_set(PAIRS)
    assert neurons.patch is not None
    assert neurons.patch.median is not None
    short = PatchValues(max=neurons.patch.max, median=neurons.patch.median[:2], mean=neurons.patch.mean)
    with pytest.raises(InvalidRequest) as caught:
        replace(neurons, patch=short)
    assert caught.value.param == "patch.median"


def test_entropies_are_stored_and_change_the_id_of_the_content(tmp_path: Path) -> None:
    bare = make_neuron_set({"fr": [(0, 1)]})
    entropy = np.arange(24, dtype=np.float32).reshape(3, 8)
    entropy[0, 0] = np.nan
    saved = replace(bare, entropy=entropy).with_content_id()
    assert saved.id != bare.id
    unpatched = replace(bare, patch=None)
    assert replace(unpatched, entropy=entropy).with_content_id().id != unpatched.with_content_id().id
    saved.save(tmp_path)
    loaded = NeuronSet.load(tmp_path)
    assert loaded.entropy is not None
    np.testing.assert_array_equal(loaded.entropy, entropy)
    bare.save(tmp_path / "bare")
    assert NeuronSet.load(tmp_path / "bare").entropy is None
    with pytest.raises(InvalidRequest, match=r"entropies must be float32 \(3, 8\)"):
        replace(bare, entropy=entropy[:2])


UNEQUAL = (4, 8, 2)


def test_a_set_of_unequal_layers_is_saved_and_loaded_the_same(tmp_path: Path) -> None:
    saved = make_neuron_set({"en": [(0, 3), (1, 7)], "fr": [(2, 1)]}, width=UNEQUAL)
    saved.save(tmp_path)
    assert json.loads((tmp_path / "metadata.json").read_text())["width"] == [4, 8, 2]
    loaded = NeuronSet.load(tmp_path)
    assert (loaded.id, loaded.width, loaded.widths.total) == (saved.id, UNEQUAL, 14)
    assert saved.patch is not None
    assert loaded.patch is not None
    assert saved.patch.median is not None
    assert loaded.patch.median is not None
    np.testing.assert_array_equal(loaded.patch.median, saved.patch.median)
    assert loaded.patch.median.shape == (2, 14)
    assert loaded.id != make_neuron_set({"en": [(0, 3), (1, 7)], "fr": [(2, 1)]}, width=(4, 8, 3)).id


def test_a_neuron_beyond_its_layer_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="neuron 4 of layer 0 is outside 3 layers of 2 to 8 neurons"):
        make_neuron_set({"en": [(0, 4)]}, width=UNEQUAL)


def test_a_set_of_unequal_layers_fits_only_its_own_widths() -> None:
    neurons = make_neuron_set({"en": [(1, 7)]}, width=UNEQUAL)
    neurons.check_widths(LayerWidths(3, UNEQUAL), model="tiny")
    with pytest.raises(InvalidRequest, match="is for 3 layers of 2 to 8 neurons"):
        neurons.check_widths(LayerWidths(3, (8, 4, 2)), model="tiny")

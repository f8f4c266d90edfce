"""The id of a cell: what is part of it and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.hashing import canonical_json
from benchmarks.models.adapter import tiny_adapter
from jobs.cell import Cell
from jobs.planning.catalog import Catalog
from tests.jobs.cluster import planned


def test_the_same_spec_gives_the_same_cells_and_no_cell_twice(catalog: Catalog) -> None:
    tasks = [{"name": "lss", "languages": ["en"]}] * 2
    cells = planned(catalog, tasks=tasks)
    ids = [cell.id for cell in cells]
    assert len(ids) == len(set(ids)) == 6
    assert ids == [cell.id for cell in planned(catalog)]
    assert cells[0].neurons is None
    assert cells[1].neurons is not None


def test_cells_survive_their_json_form(catalog: Catalog) -> None:
    for cell in planned(catalog):
        again = Cell.from_dict(cell.to_dict())
        assert (again, again.id) == (cell, cell.id)
        assert cell.to_json() == again.to_json() == canonical_json(cell.to_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"tasks": [{"name": "lss", "languages": ["en"], "limit": 3}]},
        {"interventions": {"languages": ["fr"], "op": "scale", "factors": [3]}},
        {"interventions": {"languages": ["fr"], "op": "add", "factors": [2]}},
        {"interventions": {"languages": ["fr"], "op": "scale", "factors": [2], "scope": "prompt"}},
        {"interventions": {"languages": ["fr"], "op": "scale", "factors": [2], "layers": [0]}},
        {"neurons": {"method": "lape", "corpus": "small", "languages": ["en", "fr"]}},
        {"neurons": {"method": "activated", "corpus": "small", "languages": ["en", "fr", "tr"]}},
    ],
)
def test_all_that_can_change_an_answer_changes_the_id(catalog: Catalog, change: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"interventions": {"languages": ["fr"], "op": "scale", "factors": [2]}}
    assert planned(catalog, **{**plain, **change})[1].id != planned(catalog, **plain)[1].id


def test_the_variables_of_the_chat_template_are_part_of_the_id(catalog: Catalog) -> None:
    """In any order. Without variables the id is that of before they existed."""

    def cell(**options: Any) -> Cell:
        tasks = [{"name": "lss", "languages": ["en"], "chat": True, **options}]
        return planned(catalog, tasks=tasks)[0]

    off = cell(chat_template_kwargs={"enable_thinking": False, "depth": [1, None]})
    assert off.task.template_variables == {"enable_thinking": False, "depth": [1, None]}
    assert off.id == cell(chat_template_kwargs={"depth": [1, None], "enable_thinking": False}).id
    assert cell().id == cell(chat_template_kwargs={}).id == cell(chat_template_kwargs=None).id
    assert len({off.id, cell().id, cell(chat_template_kwargs={"enable_thinking": False}).id}) == 3
    assert (Cell.from_dict(off.to_dict()), "chat_template_kwargs" in cell().to_dict()["task"]) == (off, False)


def test_data_engine_and_dtype_are_part_of_the_id_and_the_models_name_is_not(catalog: Catalog) -> None:
    before = planned(catalog)[0].id
    assert planned(replace(catalog, dtype="bfloat16"))[0].id != before
    assert planned(replace(catalog, engine="transformers"))[0].id != before
    renamed = replace(catalog, models={"other": catalog.models["tiny"]})
    assert planned(renamed, model="other")[0].id == before
    assert catalog.atlas is not None
    with (catalog.atlas / "facts.jsonl").open("a") as file:
        file.write("\n")
    assert planned(catalog)[0].id != before


def test_a_chat_template_in_a_file_of_its_own_is_part_of_the_id(catalog: Catalog) -> None:
    ids = [planned(catalog)[0].id]
    for template in ("{{ messages }}", "User: {{ messages }}"):
        (catalog.models["tiny"] / "chat_template.jinja").write_text(template)
        ids.append(planned(catalog)[0].id)
    assert len(set(ids)) == 3


def test_the_content_of_an_adapter_is_part_of_a_cells_id_and_its_name_is_not(catalog: Catalog, tmp_path: Path) -> None:
    first, second = (
        tiny_adapter(ATLAS_MODEL, tmp_path / str(seed), targets=["q_proj"], seed=seed)[0] for seed in (1, 2)
    )
    catalog = replace(catalog, adapters={"tiny": {"a": first, "same": first, "b": second}})
    ids = {adapter: [cell.id for cell in planned(catalog, adapter=adapter)] for adapter in ("a", "same", "b")}
    assert ids["a"] == ids["same"]
    assert not {*ids["a"]} & {*ids["b"]}
    assert not {*ids["a"]} & {cell.id for cell in planned(catalog)}
    cell = planned(catalog, adapter="a")[-1]
    assert cell.adapter is not None
    assert cell.adapter.name == "a"
    assert Cell.from_dict(cell.to_dict()) == cell
    assert "adapter" not in planned(catalog)[0].to_dict()

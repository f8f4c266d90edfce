"""Files and batches with the `openai` client and a server on a socket."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.api.openai.test_openai_client import PROMPT, client
from tests.worker.installation import Installation

pytestmark = [pytest.mark.processes, pytest.mark.anyio]

BODY: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 4}
ENDED = {"completed", "failed", "expired", "cancelled"}


async def test_a_file_is_uploaded_run_as_a_batch_and_its_answers_downloaded(installation: Installation) -> None:
    rows = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": {**BODY, "seed": number % 3}}
        for number in range(100)
    ]
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    async with client(installation) as (talking, server):
        file = await talking.files.create(file=("rows.jsonl", content), purpose="batch")
        batch = await talking.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="24h", metadata={"run": "1"}
        )
        while batch.status not in ENDED:
            await server.batch_service.idle()
            batch = await talking.batches.retrieve(batch.id)
        assert (batch.status, batch.error_file_id, batch.metadata) == ("completed", None, {"run": "1"})
        assert batch.request_counts is not None
        assert (batch.request_counts.total, batch.request_counts.completed) == (100, 100)
        output = await talking.files.content(batch.output_file_id or "")
        answers = [json.loads(line) for line in output.text.splitlines()]
        alone = [(await talking.completions.create(**BODY, seed=seed)).choices[0].text for seed in range(3)]
        assert [record.id async for record in talking.batches.list()] == [batch.id]
        assert {record.purpose async for record in talking.files.list()} == {"batch", "batch_output"}
        assert (await talking.files.delete(file.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await talking.files.retrieve(file.id)
        with pytest.raises(openai.ConflictError):
            await talking.batches.cancel(batch.id)
        with pytest.raises(openai.BadRequestError):
            await talking.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    assert [answer["custom_id"] for answer in answers] == [row["custom_id"] for row in rows]
    texts = [answer["response"]["body"]["choices"][0]["text"] for answer in answers]
    assert texts == [alone[number % 3] for number in range(100)]
    assert len(set(alone)) == 3

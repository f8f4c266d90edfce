"""Every larger module has its test at the mirrored path, or is listed here with the test that covers it.

The test of `jobs/store/sql/store.py` is `tests/jobs/store/sql/test_store.py`. A module without one is listed in
`COVERED_BY`, below the test files that exercise it through the interface of which it is a part. An entry that is no
longer needed fails the test, so that the list cannot outlive its reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ampsweep", "api", "jobs", "worker", "engine")
MIN_LINES = 60
"""Modules of at most so many lines need no test file of their own."""

COVERED_BY: Mapping[str, tuple[str, ...]] = {
    "tests/worker/batches/test_service.py": ("worker/leased_service.py",),
    "tests/engine/vllm/plugin/test_serve.py": ("engine/vllm/plugin/self_test.py",),
    "tests/engine/vllm/worker/outputs/test_recording.py": ("engine/kernels/host_copies.py",),
    "tests/ampsweep/cli/checks/test_checks.py": (
        "ampsweep/cli/checks/installation.py",
        "ampsweep/cli/checks/machine.py",
        "ampsweep/cli/checks/software.py",
    ),
    "tests/ampsweep/cli/commands/test_local_engines.py": (
        "ampsweep/cli/commands/generate.py",
        "ampsweep/cli/commands/identify.py",
        "ampsweep/cli/commands/run.py",
        "ampsweep/cli/options/engine.py",
    ),
    "tests/ampsweep/cli/commands/test_before_an_engine.py": ("ampsweep/cli/commands/batch_check.py",),
    "tests/ampsweep/cli/commands/test_files.py": ("ampsweep/cli/commands/neurons.py",),
    "tests/ampsweep/cli/test_app.py": ("ampsweep/cli/terminal/failures.py",),
    "tests/ampsweep/cli/commands/test_serve.py": (
        "ampsweep/cli/server/engine_specs.py",
        "ampsweep/cli/server/serving.py",
    ),
    "tests/ampsweep/client/test_clients.py": (
        "ampsweep/client/activations.py",
        "ampsweep/client/completions.py",
        "ampsweep/client/models.py",
        "ampsweep/client/http/session.py",
        "ampsweep/client/sweeps.py",
    ),
    "tests/ampsweep/domain/test_intervention.py": ("ampsweep/domain/statistic.py",),
    "tests/api/test_errors.py": ("api/http/json_body.py",),
    "tests/api/test_app.py": ("api/services.py",),
    "tests/engine/test_chat_template.py": ("ampsweep/domain/generation/prompt.py",),
    "tests/api/routes/test_health.py": ("api/routes/models.py",),
    "tests/api/routes/test_interventions.py": ("api/model_names.py",),
    "tests/api/routes/test_tokenization.py": ("api/openai/tokenization.py",),
    "tests/api/routes/test_activations.py": ("api/auth/stream_limit.py", "api/openai/captured_text.py"),
    "tests/api/routes/test_evaluations.py": ("worker/evaluation/sweep_texts.py",),
    "tests/jobs/store/sql/test_evaluations.py": ("jobs/evaluation/records.py",),
    "tests/jobs/store/sql/test_batches.py": ("jobs/batches/records.py",),
    "tests/worker/batches/test_run_rows.py": ("jobs/batches/rows.py",),
    "tests/api/routes/test_results.py": (
        "api/http/range_response.py",
        "api/http/table_stream.py",
    ),
    "tests/api/metrics/test_metrics.py": (
        "api/metrics/engines.py",
        "api/metrics/http.py",
        "api/metrics/queue.py",
        "api/routes/metrics.py",
    ),
    "tests/api/openai/test_choices_formatter.py": (
        "api/openai/chats/formatter.py",
        "api/openai/completions/formatter.py",
    ),
    "tests/api/openai/test_generation_request.py": ("api/openai/completions/request.py",),
    "tests/api/openai/test_openai_client.py": (
        "api/openai/streaming.py",
        "api/routes/completions.py",
    ),
    "tests/api/test_schema_cases.py": ("api/openapi.py",),
    "tests/ampsweep/cli/commands/test_doctor.py": ("ampsweep/cli/checks/server.py",),
    "tests/ampsweep/cli/commands/test_evaluate.py": ("ampsweep/cli/options/evaluation.py",),
    "tests/jobs/evaluation/test_language_metrics.py": ("jobs/evaluation/metric.py",),
    "tests/jobs/test_plugins.py": (
        "jobs/metrics/base.py",
        "jobs/metrics/registry.py",
        "jobs/tasks/registry.py",
    ),
    "tests/jobs/planning/test_resolution.py": ("jobs/planning/task_resolution.py",),
    "tests/jobs/data/test_hub.py": ("jobs/data/hub_sources.py",),
    "tests/api/openai/test_completions.py": ("jobs/execution.py", "worker/completions.py"),
    "tests/jobs/metrics/corpus/test_corpus_score.py": ("jobs/metrics/corpus/corpus_metrics.py",),
    "tests/jobs/report/test_page.py": (
        "jobs/report/answers.py",
        "jobs/report/document.py",
        "jobs/report/questions.py",
    ),
    "tests/jobs/results/test_writer.py": (
        "jobs/results/cell_table.py",
        "jobs/results/schema.py",
    ),
    "tests/jobs/spec/test_sweep.py": ("jobs/spec/interventions.py", "jobs/spec/neurons.py"),
    "tests/jobs/results/test_retention.py": ("jobs/results/score_files.py",),
    "tests/jobs/results/finalization/test_finalization.py": (
        "jobs/results/finalization/assembly.py",
        "jobs/results/failures.py",
    ),
    "tests/api/routes/test_partial_results.py": ("jobs/results/finalization/partial.py",),
    "tests/jobs/storage/test_protocol.py": ("jobs/storage/local.py",),
    "tests/jobs/store/test_*_contract.py": (
        "jobs/store/protocol.py",
        "jobs/store/sql/queries.py",
        "jobs/store/records.py",
        "jobs/store/sql/rows.py",
        "jobs/store/sql/transaction.py",
    ),
    "tests/jobs/store/test_migrations.py": ("jobs/store/sql/tables.py",),
    "tests/jobs/tasks/test_*.py": ("jobs/tasks/base.py",),
    "tests/jobs/tasks/lm_eval/test_loaded_task.py": ("jobs/tasks/lm_eval/task.py",),
    "tests/jobs/tasks/built_in/test_xcopa.py": ("jobs/tasks/file_task.py",),
    "tests/worker/test_task_calls.py": ("jobs/tasks/requests.py",),
    "tests/worker/pool/test_local_pool.py": ("worker/pool/engine_session.py",),
    "tests/api/routes/test_neuron_sets.py": ("worker/neuron_set_service.py",),
    "tests/engine/kernels/cpu/test_take_statistics.py": (
        "engine/kernels/cpu/statistic_numba.py",
        "engine/kernels/cuda/statistic_triton.py",
    ),
    "tests/engine/kernels/cpu/test_steer_cpu.py": (
        "engine/kernels/cpu/steer_numba.py",
        "engine/kernels/cpu/steer_torch.py",
    ),
    "tests/engine/identify/test_recorder.py": ("engine/identify/stats.py",),
    "tests/engine/test_families.py": ("engine/steering/mlp_sites.py",),
    "tests/engine/vllm/worker/test_steering.py": (
        "engine/vllm/backends/base.py",
        "engine/vllm/backends/cpu.py",
        "engine/vllm/worker/base.py",
        "engine/vllm/worker/runner_v1.py",
        "engine/vllm/worker/runner_v2.py",
    ),
    "tests/engine/vllm/backends/test_fused_activation.py": (
        "engine/vllm/backends/device_buffers.py",
        "engine/vllm/backends/device_residual.py",
    ),
    "tests/engine/vllm/test_sampling.py": ("engine/vllm/requests/request_extras.py",),
    "tests/engine/vllm/test_engine.py": ("engine/vllm/requests/one_pass.py",),
    "tests/engine/vllm/test_launch.py": ("engine/vllm/settings.py",),
}


def larger_modules() -> Iterator[str]:
    """Yield the modules that need a test; migrations are tested together, from each revision to the newest."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT)
            is_larger = len(path.read_text(encoding="utf-8").splitlines()) > MIN_LINES
            if is_larger and path.name != "__init__.py" and "migrations" not in name.parts:
                yield name.as_posix()


def mirrored_test(module: str) -> Path:
    path = Path(module)
    return Path("tests") / path.parent / f"test_{path.name}"


def test_every_larger_module_has_a_test() -> None:
    listed = {module for modules in COVERED_BY.values() for module in modules}
    missing = {module for module in larger_modules() if not (ROOT / mirrored_test(module)).is_file()}
    assert missing - listed == set(), "add a test at the mirrored path, or list the module with the test that covers it"
    assert listed - missing == set(), "these entries are not needed (any more): remove them"


@pytest.mark.parametrize("test_file", COVERED_BY)
def test_the_covering_tests_exist(test_file: str) -> None:
    assert list(ROOT.glob(test_file)), f"{test_file} does not exist"


def test_no_module_is_listed_twice() -> None:
    listed = [module for modules in COVERED_BY.values() for module in modules]
    assert len(listed) == len(set(listed))

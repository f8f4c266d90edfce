"""`ampsweep serve`: runs the API, the dispatcher and the engines until it is told to stop."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.options.engine import (
    AllowUntestedVllm,
    BatchInvariant,
    Data,
    Lora,
    PipelineParallel,
    ServerCompile,
    TensorParallel,
    UnfusedExperts,
    Verbose,
)
from ampsweep.cli.terminal.output import AsJson


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one. [default: 8700]")] = None,
    home: Annotated[
        Path | None, typer.Option(help="The folder of database, results and neuron sets. [default: ampsweep-home]")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(help="Where to store results and neuron sets: a folder, s3:// or gs://. [default: the home]"),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL server, as postgresql://USER@HOST/NAME. [default: a file in the home]"),
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(help="Delete results this many days after a sweep's end. [default: never]")
    ] = None,
    keep_events_days: Annotated[
        float | None,
        typer.Option(help="Delete the events of a sweep's cells this many days after its end. [default: 30]"),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A model to offer; may be repeated.")
    ] = None,
    lora: Lora = None,
    tool_call_parser: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="vLLM's parser of the model's tool calls, or none. [default: chosen by the chat template]",
            show_default=False,
        ),
    ] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A corpus to offer; may be repeated.")
    ] = None,
    data: Data = None,
    engine: Annotated[str | None, typer.Option(help="vllm, or transformers (slow). [default: vllm]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. [default: float32]")] = None,
    tensor_parallel_size: TensorParallel = None,
    pipeline_parallel_size: PipelineParallel = None,
    batch_invariant: BatchInvariant = False,
    unfused_experts: UnfusedExperts = False,
    allow_untested_vllm: AllowUntestedVllm = False,
    compiles: ServerCompile = None,
    ray_address: Annotated[str | None, typer.Option(help="Join this Ray cluster instead of starting one.")] = None,
    cells_per_engine: Annotated[
        int | None, typer.Option(help="Cells that an engine computes at once. [default: 8]")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="The file of API keys. [default: keys.json in the home]")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="A certificate chain (PEM), to serve over TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's private key (PEM).")] = None,
    behind_tls_proxy: Annotated[
        bool, typer.Option("--behind-tls-proxy", help="A proxy terminates TLS, and only the proxy can reach this port.")
    ] = False,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="Serve /metrics without a key.")] = False,
    open_page: Annotated[
        bool, typer.Option("--open-page", help="Serve the web page without a key; the data in it still needs one.")
    ] = False,
    log_format: Annotated[str | None, typer.Option(help="console or json. [default: console]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [default: info]")] = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Send traces to this OTLP collector, for example http://collector:4318."),
    ] = None,
    no_atlas: Annotated[bool, typer.Option("--no-atlas", help="Do not offer the bundled model.")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Run a server until Ctrl-C. Every option can also be set by an environment variable, such as AMPSWEEP_HOST."""
    from ampsweep.cli.server.serving import run_server
    from ampsweep.cli.server.settings import read_settings

    settings = read_settings(
        host=host,
        port=port,
        home=home,
        results=results,
        database_url=database_url,
        keep_days=keep_days,
        keep_events_days=keep_events_days,
        models=model,
        lora=lora,
        tool_call_parser=tool_call_parser,
        corpora=corpus,
        data=data,
        engine=engine,
        dtype=dtype,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        batch_invariant=batch_invariant or None,
        unfused_experts=unfused_experts or None,
        allow_untested_vllm=allow_untested_vllm or None,
        compile=compiles,
        ray_address=ray_address,
        cells_per_engine=cells_per_engine,
        atlas=False if no_atlas else None,
        open_metrics=open_metrics or None,
        open_page=open_page or None,
        log_format=log_format,
        log_level=log_level,
        otlp_endpoint=otlp_endpoint,
        keys=keys,
        tls_cert=tls_cert,
        tls_key=tls_key,
        behind_tls_proxy=behind_tls_proxy or None,
    )
    if run_server(settings, verbose=verbose, as_json=as_json) is signal.SIGINT:
        raise typer.Exit(130)

"""How far a recording is, as text and as an object that is stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ampsweep.domain.neurons.recording_progress import RecordingProgress

RECORDING = RecordingProgress(
    language="fr", languages=3, languages_done=1, tokens=310, total_tokens=1000, tokens_per_second=5.75
)


@pytest.mark.parametrize(
    ("recording", "text"),
    [
        (RECORDING, "finding neurons: 31 %, 2 min left"),
        (replace(RECORDING, tokens_per_second=69.0), "finding neurons: 31 %, 10 s left"),
        (replace(RECORDING, tokens_per_second=None), "finding neurons: 31 %"),
        (replace(RECORDING, tokens=1100), "finding neurons: 100 %, 0 s left"),
        (replace(RECORDING, total_tokens=None), "finding neurons: 1 of 3 languages done"),
    ],
)
def test_the_text_has_the_share_and_the_time_left_as_far_as_they_are_known(
    recording: RecordingProgress, text: str
) -> None:
    assert recording.text() == text
    assert RecordingProgress.from_dict(recording.to_dict()) == recording

from __future__ import annotations

from d3ke_platform import progress_bar


def test_progress_without_a_terminal_is_a_log_line_now_and_then(monkeypatch, caplog) -> None:
    monkeypatch.setattr(progress_bar.logger, "propagate", True)
    monkeypatch.setattr(progress_bar, "_LOG_INTERVAL_S", 0.0)
    with caplog.at_level("INFO"), progress_bar.progress("crop", 3) as report:
        report.advance()
        report.advance(2, note="1 rejected")
    assert [record.message for record in caplog.records] == [
        "crop: 1 of 3 ",
        "crop: 3 of 3 1 rejected",
    ]

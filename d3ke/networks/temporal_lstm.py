"""Bidirectional LSTM over a sequence (paper, section 3.2)."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class TemporalLSTM(nn.Module):
    """Recurrent layers in both directions; each direction has half of `width` hidden numbers."""

    def __init__(self, features: int, *, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            features,
            width // 2,
            num_layers=layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(
        self, features: Float[Tensor, "B T F"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """Mix features along time; frames after the last valid one are left out."""
        frames = valid.shape[1]
        padding = valid.flip(1).int().argmax(dim=1)  # frames after the last valid one
        lengths = (frames - padding).cpu()
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        mixed, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=frames)
        return mixed

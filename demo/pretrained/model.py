"""The model in training: upper encoder layers, a linear projector, the decoder; and a CTC head that helps."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from .decoder import RANK, Decoder, Weights
from .encoder import Upper
from .language_model import Sizes


class Model(nn.Module):
    """Rows of the lower encoder layers to hidden states of the decoder.

    The projector is one matrix, as in the checkpoint, so no norm can hold its rows at the size of embeddings
    there. They start at it, and `size_loss` keeps them near it.
    """

    def __init__(
        self, encoder: Qwen2AudioEncoder, weights: Weights, sizes: Sizes, spoken: list[int], rank: int = RANK
    ) -> None:
        """`spoken` are the tokens that transcripts have: the only ones that the CTC head knows."""
        super().__init__()
        self.upper = Upper(encoder)
        self.decoder = Decoder(weights, sizes, rank)
        self.projector = nn.Linear(encoder.config.d_model, sizes.hidden_size)
        self.size = float(weights["model.embed_tokens.weight"].std())
        self.ctc = CtcHead(self.decoder.embedding, spoken, self.size)
        nn.init.normal_(self.projector.weight, std=encoder.config.d_model**-0.5)
        nn.init.zeros_(self.projector.bias)

    @torch.no_grad()
    def fit_size(self, rows: torch.Tensor, lengths: torch.Tensor) -> None:
        """Scale a fresh projector so that what it makes of these rows is as large as embeddings."""
        projected = self.audio(rows, lengths)
        self.projector.weight.mul_(self.size / projected[_inside(projected, lengths // 2)].std())

    def audio(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(clips, R, encoder width) of which `lengths` count -> (clips, R / 2, hidden), float32."""
        found = self.upper(rows, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            return self.projector(found).float()

    def size_loss(self, audio: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How far audio rows are from the size of embeddings, squared logarithm; and their mean size."""
        sizes = audio[_inside(audio, lengths)].square().mean(-1).sqrt()
        return (sizes / self.size).clamp_min(1e-3).log().square().mean(), sizes.mean()

    def trained(self) -> dict[str, list[nn.Parameter]]:
        """All that learns, by kind."""
        return {
            "encoder": list(self.upper.parameters()),
            "projector": list(self.projector.parameters()),
            "ctc": list(self.ctc.parameters()),
            "lora": self.decoder.additions(),
            "norms": self.decoder.norms(),
        }


class CtcHead(nn.Module):
    """Which token an audio row says, by its likeness to the embeddings of tokens, or none of them."""

    def __init__(self, embedding: torch.Tensor, spoken: list[int], size: float) -> None:
        super().__init__()
        self.places = {token: place for place, token in enumerate(spoken, 1)}
        rows = torch.cat([torch.zeros_like(embedding[:1]), embedding[spoken]])
        self.register_buffer("embeddings", rows, persistent=False)  # the first is no token's
        self.size = size
        self.blank = nn.Parameter(torch.randn(1, embedding.shape[1]) * size)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.blank_bias = nn.Parameter(torch.tensor(2.0))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """(clips, rows, hidden) -> log probabilities (clips, rows, 1 + tokens), the first of no token.

        Rows are brought to one size first, so that the loss does not ask for larger ones.
        """
        x = (functional.rms_norm(audio, audio.shape[-1:]) * self.size * self.scale).bfloat16()
        scores = functional.linear(x, self.embeddings).float()
        scores[..., :1] = functional.linear(x, self.blank.bfloat16()).float() + self.blank_bias
        return scores.log_softmax(-1)


def _inside(rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Which rows are of a clip: (clips, rows), boolean."""
    return torch.arange(rows.shape[1])[None] < lengths[:, None]

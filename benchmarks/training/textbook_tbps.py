"""A training step of TBPS-CLIP as research code writes it (Cao, Bai, Zeng, Ye, Zhang, AAAI 2024).

Attention matrices are written out, all tokens of all 77 positions go through every layer, the features that
make soft labels come from passes of their own, and every kind of picture goes through the tower by itself.
"""

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from datasets import PairBatch
from processor.recipes import LossWeights


class Attention(nn.Module):
    """Self-attention of `width` in `heads`; `dropout` acts on its shares."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend among tokens (B, L, D); `mask` (L, L) is added to the scores."""
        packed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (
            part.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in packed.chunk(3, dim=2)
        )
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5  # (B, heads, L, L)
        if mask is not None:
            scores = scores + mask
        shares = self.dropout(scores.softmax(dim=3))
        return self.out_proj((shares @ value).transpose(1, 2).reshape(x.shape))


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply QuickGELU to a tensor of any shape."""
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Residual attention block."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, dropout)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.gelu = QuickGELU()

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Run the block on tokens (B, L, D)."""
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp["c_proj"](self.gelu(self.mlp["c_fc"](self.ln_2(x))))


class Transformer(nn.Module):
    """Blocks one after the other."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run all blocks on tokens (B, L, D)."""
        for block in self.resblocks:
            x = block(x, mask)
        return x


class ImageTower(nn.Module):
    """Vision transformer; shapes are those of the weights."""

    def __init__(self, weights: Mapping[str, Tensor], heads: int) -> None:
        super().__init__()
        width, _, patch, _ = weights["conv1.weight"].shape
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty_like(weights["positional_embedding"]))
        self.proj = nn.Parameter(torch.empty_like(weights["proj"]))
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False).requires_grad_(False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, _count_layers(weights), heads, 0.0)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, P) of images (B, 3, H, W)."""
        x = self.conv1(images).flatten(2).transpose(1, 2)
        token = self.class_embedding + x.new_zeros(len(x), 1, x.shape[2])
        x = self.ln_pre(torch.cat([token, x], dim=1) + self.positional_embedding)
        return (self.ln_post(self.transformer(x)) @ self.proj)[:, 0]


class TextTower(nn.Module):
    """Causal transformer over all positions."""

    def __init__(self, weights: Mapping[str, Tensor], heads: int, dropout: float) -> None:
        super().__init__()
        words, width = weights["token_embedding.weight"].shape
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.empty_like(weights["positional_embedding"]))
        self.text_projection = nn.Parameter(torch.empty_like(weights["text_projection"]))
        self.transformer = Transformer(width, _count_layers(weights), heads, dropout)
        self.ln_final = nn.LayerNorm(width)
        length = len(self.positional_embedding)
        mask = torch.full((length, length), -torch.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (B, P) of tokens (B, L), at the highest id."""
        x = self.transformer(self.token_embedding(tokens) + self.positional_embedding, self.mask)
        x = self.ln_final(x) @ self.text_projection  # (B, L, P)
        return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=1)]


class Model(nn.Module):
    """Both towers with the weights of a DualModel, whose names are the published ones.

    Args:
        weights: its state dict.
        heads: of the image tower and of the text tower.
        dropout: of attention in the text tower.
    """

    def __init__(self, weights: Mapping[str, Tensor], heads: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.visual = ImageTower(_within(weights, "visual."), heads[0])
        self.encode_text = TextTower(_within(weights, "encode_text."), heads[1], dropout)
        self.logit_scale = nn.Parameter(torch.empty(()))
        if "simclr_mlp.0.weight" in weights:
            (hidden, width), last = weights["simclr_mlp.0.weight"].shape, len(weights["simclr_mlp.2.bias"])
            self.simclr_mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, last))
        self.load_state_dict(weights)

    def losses(
        self, batch: PairBatch, tokens: Tensor, weights: LossWeights, soft: float
    ) -> dict[str, Tensor]:
        """Terms of a batch with tokens (B, L); `soft` is the share of soft labels."""
        scale = self.logit_scale.exp()  # random weights never come near its bound
        image, text = F.normalize(self.visual(batch.images)), F.normalize(self.encode_text(tokens))
        with torch.no_grad():
            soft_image = F.normalize(self.visual(batch.images))
            soft_text = F.normalize(self.encode_text(tokens))
        same = (batch.pids[:, None] == batch.pids).float()
        hard = same / same.sum(dim=1, keepdim=True)

        def nitc(feature: Tensor, soft_feature: Tensor) -> Tensor:
            with torch.no_grad():
                forth = (scale * soft_feature @ soft_text.T).softmax(dim=1)
                back = (scale * soft_text @ soft_feature.T).softmax(dim=1)
                labels = soft * forth + (1 - soft) * hard, soft * back + (1 - soft) * hard
            logits = scale * feature @ text.T, scale * text @ feature.T
            each = [F.cross_entropy(*pair) for pair in zip(logits, labels, strict=True)]
            return (each[0] + each[1]) / 2

        terms = {"nitc": nitc(image, soft_image)}
        if weights.multi_view:
            second = F.normalize(self.visual(batch.second_images))
            with torch.no_grad():
                soft_second = F.normalize(self.visual(batch.second_images))
            terms["nitc"] = (terms["nitc"] + nitc(second, soft_second)) / 2
        if weights.ss:
            pictures = batch.first_views, batch.second_views
            views = [F.normalize(self.simclr_mlp(self.visual(each))) for each in pictures]
            terms["ss"] = weights.ss * _simclr(*views, weights.ss_temperature)
        if weights.citc:
            cosines = [scale * a @ b.T for a, b in ((image, image), (text, text), (image, text))]
            inmodal = (cosines[0] - cosines[1]).square().mean() / scale**2
            crossmodal = (cosines[2] - cosines[2].T).square().mean() / scale**2
            both = weights.citc_inmodal * inmodal + weights.citc_crossmodal * crossmodal
            terms["citc"] = weights.citc * both
        log_labels = (hard + weights.ritc_eps).log()
        each = []
        for logits in (scale * image @ text.T, scale * text @ image.T):
            gap = logits.log_softmax(dim=1) - log_labels
            each.append((logits.softmax(dim=1) * gap).sum(dim=1).mean())
        terms["ritc"] = weights.ritc * (each[0] + each[1]) / 2
        return terms


def _simclr(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    count, views = len(a), torch.cat([a, b])
    logits = views @ views.T / temperature
    others = ~torch.eye(2 * count, dtype=torch.bool, device=a.device)
    logits = logits[others].reshape(2 * count, -1)  # without the diagonal
    place = torch.arange(count, device=a.device)
    return F.cross_entropy(logits, torch.cat([place + count - 1, place]))


def make_optimizer(parameters: Iterable[tuple[str, nn.Parameter]], node: CfgNode) -> torch.optim.Optimizer:
    """AdamW with a group for each named parameter, without decay of vectors, biases and norms."""
    groups = []
    for name, parameter in parameters:
        if parameter.requires_grad:
            free = parameter.ndim < 2 or any(part in name for part in ("bias", "ln", "bn"))
            groups.append({"params": [parameter], "weight_decay": 0.0 if free else node.WEIGHT_DECAY})
    return torch.optim.AdamW(groups, lr=node.BASE_LR, betas=tuple(node.BETAS), eps=node.EPS, foreach=False)


def _count_layers(weights: Mapping[str, Tensor]) -> int:
    prefix = "transformer.resblocks."
    return 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in weights if n.startswith(prefix))


def _within(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}

"""The re-identification model: image tower, side information, BNNeck, classifiers, prompts.

CLIP-ReID (Li, Sun, Li, AAAI 2023), figure 2. BNNeck: Luo et al. 2019. SIE: TransReID (He et al. 2021).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.adapter import Adapter
from model.prompts.identity import PromptLearner
from model.tokenizers import ClipTokenizer
from model.towers.image import Backbone, ImageFeatures
from model.towers.parts import in_parts
from model.towers.text import ClipText
from utils.device import queue_copy


class ReIDOutput(NamedTuple):
    """Outputs in training mode.

    `logits`: (B, C), of each classifier. `metric`: three features before the neck. `projected`: (B, P), for
    texts. `necks`: (B, D) and (B, P), after the neck; side by side they are the test feature of that name.
    """

    logits: tuple[Tensor, ...]
    metric: tuple[Tensor, Tensor, Tensor]
    projected: Tensor
    necks: tuple[Tensor, ...] = ()


class SideInformation(NamedTuple):
    """Camera and view counts that number the rows of the side information table (SIE).

    Rows: cameras×views, cameras, or views; 0 stands for 'not used'. `scale` multiplies the rows.
    """

    cameras: int
    views: int
    scale: float

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return max(self.cameras, 1) * max(self.views, 1) if self.cameras or self.views else 0


class ReIDModel(nn.Module):
    """Image tower with heads; `encode_prompts` works when a text side was given.

    Args:
        backbone: the image tower.
        num_classes: training identities C; 0 for no classifiers.
        joint_classifier: one classifier on both features after the neck, side by side, instead of one on each
            (PCL-CLIP; Li, Gong, arXiv 2310.17218).
        side_information: table of cameras and views, or None.
        neck_feature: test feature 'before' or 'after' the BNNeck.
        texts: prompts and text tower of a two-stage model, or None.
        micro_batch: images whose activations in the tower are held at a time in training; 0 for all.
        adapter: changes the feature of the last block, or None.
        prompt_in_captions: the learned tokens of an identity stand before the words of its captions.

    Raises ValueError for another neck feature, or a micro batch with a tower whose features of an image
    depend on the rest of the batch.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        joint_classifier: bool = False,
        side_information: SideInformation | None = None,
        neck_feature: str = "before",
        texts: tuple[PromptLearner, ClipText] | None = None,
        micro_batch: int = 0,
        adapter: Adapter | None = None,
        prompt_in_captions: bool = False,
    ) -> None:
        super().__init__()
        if neck_feature not in ("before", "after"):
            raise ValueError(f"neck_feature is {neck_feature!r}; allowed: 'before', 'after'")
        if micro_batch and not backbone.separates_images:
            raise ValueError(
                f"micro_batch is {micro_batch}; allowed with this image tower: 0, because its batch norms "
                "need the whole batch"
            )
        self.image_encoder = backbone
        self.micro_batch = micro_batch
        self.neck_feature = neck_feature
        self.side_information = side_information
        self.num_classes = num_classes
        self.joint_classifier = joint_classifier
        self.prompt_in_captions = prompt_in_captions
        if num_classes:
            width = self.feature_width if joint_classifier else backbone.width
            self.classifier = _classifier(width, num_classes)
        if num_classes and not joint_classifier:
            self.classifier_proj = _classifier(backbone.projected_width, num_classes)
        self.bottleneck = _neck(backbone.width)
        self.bottleneck_proj = _neck(backbone.projected_width)
        if side_information is not None:
            self.cv_embed = nn.Parameter(torch.empty(side_information.rows, backbone.width))
            nn.init.trunc_normal_(self.cv_embed, std=0.02)
        self.adapter = adapter
        if texts is not None:
            self.prompt_learner, self.text_encoder = texts

    @property
    def feature_width(self) -> int:
        """Width of the test feature: 1280 for ViT-B/16, 3072 for RN50."""
        return self.image_encoder.width + self.image_encoder.projected_width

    def forward(
        self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
    ) -> ReIDOutput | Tensor:
        """Training mode: ReIDOutput. Evaluation mode: test features (B, D) of images (B, 3, H, W).

        With side information, the mean row of the table stands for cameras and views that it does not have,
        and for all where None is given.
        """
        side = self._side_embedding(camids, viewids, images.shape[0])
        features = self._encode(images, side)
        if not self.training and self.neck_feature == "before":
            return torch.cat(features[1:], dim=1)
        necks = self._normalise(features)
        if not self.training:
            return torch.cat(necks, dim=1)
        return ReIDOutput(
            self._classify(necks),
            (features.last, features.feat, features.feat_proj),
            features.feat_proj,
            necks,
        )

    def encode_neck(
        self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
    ) -> Tensor:
        """Features (B, D) after the neck for any `neck_feature`; arguments as for forward."""
        side = self._side_embedding(camids, viewids, images.shape[0])
        return torch.cat(self._normalise(self._encode(images, side)), dim=1)

    def _normalise(self, features: ImageFeatures) -> tuple[Tensor, Tensor]:
        return self.bottleneck(features.feat), self.bottleneck_proj(features.feat_proj)

    def _classify(self, necks: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        if not self.num_classes:
            return ()
        if self.joint_classifier:
            return (self.classifier(torch.cat(necks, dim=1)),)
        return self.classifier(necks[0]), self.classifier_proj(necks[1])

    def _encode(self, images: Tensor, side: Tensor | None) -> ImageFeatures:
        """Features of the tower; heads and losses see the whole batch."""
        features = in_parts(self, self.image_encoder, self.micro_batch, images, side)
        return features if self.adapter is None else features._replace(feat=self.adapter(features.feat))

    def encode_image(self, images: Tensor) -> Tensor:
        """Projected features (B, P) without side information, as stage 1 matches them with texts."""
        return in_parts(self, self.image_encoder, self.micro_batch, images).feat_proj

    def encode_prompts(self, pids: Tensor) -> Tensor:
        """Text features (B, P) of the learned prompts of identities (B,)."""
        learner = self.prompt_learner
        return self.text_encoder.encode_embedded(
            learner(pids), learner.find_ends(pids), shared=learner.num_shared
        )

    def encode_text(self, pids: Tensor, captions: Sequence[str | None] | None = None) -> Tensor:
        """Text features (B, P) of identities (B,): of their prompts, or of captions that stand for them.

        `captions` are B sentences, None or blank where the prompt stays.
        """
        given = [place for place, text in enumerate(captions or ()) if text and text.strip()]
        if captions is None or not given:
            return self.encode_prompts(pids)
        described = queue_copy(torch.tensor(given), pids.device)
        features = self.encode_captions([captions[place] or "" for place in given], pids[described])
        if len(given) == len(pids):
            return features
        others = queue_copy(torch.tensor(sorted({*range(len(pids))} - {*given})), pids.device)
        places = torch.cat([described, others]).argsort()
        return torch.cat([features, self.encode_prompts(pids[others])])[places]

    def encode_captions(self, texts: Sequence[str], pids: Tensor | None = None) -> Tensor:
        """Features (B, P) of B sentences, with gradient to tower and table of word embeddings.

        Where the model puts learned tokens in captions, those of the identities `pids` (B,) come first; None
        leaves them out. Sentences that are too long are cut. Raises ValueError for a tower without its table.
        """
        tower, learned = self.text_encoder, None
        if pids is not None and self.prompt_in_captions:
            learned = self.prompt_learner.cls_ctx[pids]
        tokenizer = tower.tokenizer if learned is None else self.caption_tokenizer
        tokens, mask = tokenizer(texts)
        longest = int(mask.sum(dim=1).max())
        device = tower.positional_embedding.device
        tokens, mask = (queue_copy(each[:, :longest].contiguous(), device) for each in (tokens, mask))
        if learned is None:
            return tower.encode(tokens, mask)
        words = self._word_table(tokens)
        words = torch.cat([words[:, :1], learned, words[:, 1:]], dim=1)
        return tower.encode_embedded(words, mask.sum(dim=1) - 1 + learned.shape[1])

    def refresh_prompts(self) -> None:
        """Read the words of the prompts anew from the text tower's table, which stage 0 trains."""
        self.prompt_learner.refresh(self._word_table)

    @property
    def caption_tokenizer(self) -> ClipTokenizer:
        """The tokenizer of captions, which leaves room for the learned tokens that stand in them."""
        room = self.text_encoder.tokenizer.context_length
        return ClipTokenizer(room - self.prompt_in_captions * self.prompt_learner.num_tokens)

    @property
    def _word_table(self) -> nn.Embedding:
        table = self.text_encoder.token_embedding
        if table is None:
            raise ValueError("this text tower has no token table; allowed: a tower with one, for captions")
        return table

    def _side_embedding(self, camids: Tensor | None, viewids: Tensor | None, count: int) -> Tensor | None:
        side = self.side_information
        if side is None:
            return None
        mean = self.cv_embed.shape[0]  # index of the mean row, appended below
        table = torch.cat([self.cv_embed, self.cv_embed.mean(dim=0, keepdim=True)])
        row = torch.zeros(count, dtype=torch.long, device=table.device)
        known = torch.ones_like(row, dtype=torch.bool)
        for ids, size in ((camids, side.cameras), (viewids, side.views)):
            if not size:
                continue
            if ids is None:
                known = torch.zeros_like(known)
            else:
                row = row * size + ids
                known = known & (ids >= 0) & (ids < size)
        return side.scale * table[torch.where(known, row, mean)]


def _neck(width: int) -> nn.BatchNorm1d:
    neck = nn.BatchNorm1d(width)
    neck.bias.requires_grad_(False)
    return neck


def _classifier(width: int, num_classes: int) -> nn.Linear:
    classifier = nn.Linear(width, num_classes, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier

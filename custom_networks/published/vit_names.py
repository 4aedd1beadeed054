"""Names of vision transformers in checkpoints of timm and of the published masked autoencoders."""

from __future__ import annotations

# Ours to theirs, as regular expressions; the leading stack is renamed before.
VIT_BLOCK_RENAMES = [
    (r"\.attention\.qkv\.", ".attn.qkv."),
    (r"\.attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.linear1\.", ".mlp.fc1."),
    (r"\.mlp\.linear2\.", ".mlp.fc2."),
]

TOKEN_RENAMES = [
    (r"^patch_embedding\.projection\.", "patch_embed.proj."),
    (r"^patch_embedding\.norm\.", "patch_embed.norm."),
    (r"^position_embedding$", "pos_embed"),
    (r"^class_token$", "cls_token"),
    (r"^decoder_embedding\.", "decoder_embed."),
    (r"^decoder_position_embedding$", "decoder_pos_embed"),
    (r"^prediction_head\.", "decoder_pred."),
    (r"^encoder\.blocks\.", "blocks."),
    (r"^decoder\.blocks\.", "decoder_blocks."),
]

VIT_RENAMES = [
    *TOKEN_RENAMES,
    *VIT_BLOCK_RENAMES,
    (r"^encoder\.norm\.", "norm."),
    (r"^decoder\.norm\.", "decoder_norm."),
    (r"^feature_norm\.", "fc_norm."),
]

"""Writes small networks as TorchScript (.pt) and torch.export archives (.pt2) with inputs and outputs (.npz).

Usage: make_torch_cases.py FOLDER. Runs with any python3 that has torch 2.7 or later; the tests call it once and keep the
folder. cases.json lists what there is, or says why there is nothing.
"""

import collections
import hashlib
import json
import pathlib
import sys
import warnings
import zipfile

warnings.filterwarnings("ignore")
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
index = folder / "cases.json"
try:
    import numpy
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    index.write_text(json.dumps({"skipped": f"{sys.executable} has no {error.name}"}))
    sys.exit(0)

stamp = hashlib.sha256(pathlib.Path(__file__).read_bytes() + torch.__version__.encode()).hexdigest()
if index.exists() and json.loads(index.read_text()).get("stamp") == stamp:
    sys.exit(0)
torch.manual_seed(0)
torch.set_num_threads(1)


class One(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Two(One):
    def forward(self, x, y):
        return self.function(x, y)


class Three(One):
    def forward(self, x, y, z):
        return self.function(x, y, z)


def r(*shape):
    return torch.randn(*shape)


def positive(*shape):
    return torch.rand(*shape) + 0.1


def ints(high, *shape):
    return torch.randint(0, high, shape)


CASES = []


def case(name, function, *inputs, script=False, pt2=True):
    CASES.append((name, function, inputs, script, pt2))


# --- convolutions -------------------------------------------------------------------------------------------------------
image = r(2, 4, 9, 7)
for name, module in {
    "conv2d": nn.Conv2d(4, 6, 3),
    "conv2d_padding": nn.Conv2d(4, 6, 3, padding=1),
    "conv2d_stride": nn.Conv2d(4, 6, 3, stride=2, padding=(1, 0)),
    "conv2d_dilation": nn.Conv2d(4, 6, 3, dilation=2, padding=2),
    "conv2d_groups": nn.Conv2d(4, 8, 3, groups=2, bias=False),
    "conv2d_depthwise": nn.Conv2d(4, 4, 3, groups=4, padding=1),
    "conv2d_pointwise": nn.Conv2d(4, 5, 1),
    "conv2d_same": nn.Conv2d(4, 6, 4, padding="same"),
    "conv2d_valid": nn.Conv2d(4, 6, 3, padding="valid"),
    "conv2d_reflect": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "conv2d_circular": nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
    "conv_transpose2d": nn.ConvTranspose2d(4, 6, 3),
    "conv_transpose2d_stride": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "conv_transpose2d_groups": nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2, bias=False),
    "conv_bn": nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
}.items():
    case(name, module, image)
case("conv1d", nn.Conv1d(3, 5, 3, padding=1), r(2, 3, 11))
case("conv1d_same", nn.Conv1d(3, 5, 4, padding="same"), r(2, 3, 11))
case("conv1d_causal", nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(3, 5, 3, dilation=2)), r(1, 3, 11))
case("conv_transpose1d", nn.ConvTranspose1d(3, 5, 4, stride=2, padding=1), r(2, 3, 11))
case("conv2d_unbatched", nn.Conv2d(4, 6, 3), r(4, 8, 8))
case("conv2d_functional", lambda x, w: F.conv2d(x, w, padding=1), r(1, 2, 5, 5), r(3, 2, 3, 3))

# --- products -----------------------------------------------------------------------------------------------------------
case("linear", nn.Linear(7, 5), r(3, 7))
case("linear_no_bias", nn.Linear(7, 5, bias=False), r(3, 7))
case("linear_3d", nn.Linear(7, 5), r(2, 3, 7))
case("linear_4d_no_bias", nn.Linear(7, 5, bias=False), r(2, 3, 4, 7))
case("linear_1d", nn.Linear(7, 5), r(7))
case("bilinear_as_einsum", lambda x, y: torch.einsum("bi,bj->bij", x, y), r(2, 3), r(2, 4))
case("matmul", torch.matmul, r(3, 4), r(4, 5))
case("matmul_batched", torch.matmul, r(2, 3, 4), r(2, 4, 5))
case("matmul_broadcast", torch.matmul, r(2, 1, 3, 4), r(5, 4, 6))
case("matmul_vector", torch.matmul, r(3, 4), r(4))
case("mm", torch.mm, r(3, 4), r(4, 5))
case("bmm", torch.bmm, r(2, 3, 4), r(2, 4, 5))
case("mv", torch.mv, r(3, 4), r(4))
case("dot", torch.dot, r(6), r(6))
case("addmm", lambda x, y, z: torch.addmm(x, y, z, beta=0.5, alpha=2), r(3, 5), r(3, 4), r(4, 5))
case("baddbmm", lambda x, y, z: torch.baddbmm(x, y, z, beta=0.5, alpha=2), r(2, 3, 5), r(2, 3, 4), r(2, 4, 5))
case("outer", torch.outer, r(4), r(5))
case("einsum_attention", lambda x, y: torch.einsum("bqhd,bkhd->bhqk", x, y), r(2, 3, 2, 4), r(2, 5, 2, 4))
case("einsum_matmul", lambda x, y: torch.einsum("ij,jk->ik", x, y), r(3, 4), r(4, 5))
case("einsum_sum", lambda x: torch.einsum("ijk->ki", x), r(2, 3, 4))
case("einsum_three", lambda x, y, z: torch.einsum("ab,bc,cd->ad", x, y, z), r(2, 3), r(3, 4), r(4, 5))
case("sdpa", F.scaled_dot_product_attention, r(2, 2, 5, 8), r(2, 2, 6, 8), r(2, 2, 6, 8))
case("sdpa_causal", lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), r(1, 2, 5, 8))
case("sdpa_scale", lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.25), r(1, 2, 5, 8))
case("sdpa_mask", lambda x, y: F.scaled_dot_product_attention(x, x, x, attn_mask=y), r(1, 2, 5, 8), r(5, 5))
case("sdpa_bool_mask", lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(5, 5).tril().bool()), r(1, 2, 5, 8))


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


case("multihead_attention", SelfAttention(), r(2, 5, 8))
class MaskedAttention(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.causal = causal

    def forward(self, x, lengths):
        steps = x.shape[1]
        padding = torch.arange(steps)[None, :] >= lengths[:, None]
        mask = torch.ones(steps, steps).triu(1).bool() if self.causal else None
        return self.layer(x, src_mask=mask, src_key_padding_mask=padding)


class CausalAttention(SelfAttention):
    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        return self.attention(x, x, x, need_weights=False, attn_mask=mask)[0]


case("multihead_attention_causal", CausalAttention(), r(2, 5, 8))
case("transformer_padding", MaskedAttention(False), r(2, 5, 8), torch.tensor([3, 5]))
case("transformer_causal_padding", MaskedAttention(True), r(2, 5, 8), torch.tensor([3, 5]))
case("transformer_encoder_layer", nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), r(2, 5, 8))

# --- activations --------------------------------------------------------------------------------------------------------
for name, module in {
    "relu": nn.ReLU(), "relu6": nn.ReLU6(), "leaky_relu": nn.LeakyReLU(0.1), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(),
    "hardsigmoid": nn.Hardsigmoid(), "hardswish": nn.Hardswish(), "hardtanh": nn.Hardtanh(-0.5, 0.7), "silu": nn.SiLU(),
    "elu": nn.ELU(0.7), "celu": nn.CELU(0.7), "selu": nn.SELU(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU("tanh"),
    "prelu": nn.PReLU(4), "prelu_one": nn.PReLU(), "softplus": nn.Softplus(), "softplus_beta": nn.Softplus(2.0),
    "mish": nn.Mish(), "softsign": nn.Softsign(), "threshold": nn.Threshold(0.1, 0.0),
    "threshold_value": nn.Threshold(0.1, -3.0), "logsigmoid": nn.LogSigmoid(), "hardshrink": nn.Hardshrink(0.4),
    "softshrink": nn.Softshrink(0.4), "tanhshrink": nn.Tanhshrink(), "rrelu": nn.RReLU(), "glu": nn.GLU(1),
    "softmax": nn.Softmax(1), "softmax_last": nn.Softmax(-1), "softmin": nn.Softmin(1), "log_softmax": nn.LogSoftmax(1),
    "softmax2d": nn.Softmax2d(),
}.items():
    case(name, module, r(2, 4, 5, 3) * 3)
case("clamp", lambda x: x.clamp(-0.5, 0.5), r(3, 4))
case("clamp_min", lambda x: x.clamp(min=-0.5), r(3, 4))
case("clamp_tensor", lambda x, y: torch.clamp(x, max=y), r(3, 4), r(4))

# --- arithmetic ---------------------------------------------------------------------------------------------------------
for name in ["abs", "neg", "exp", "floor", "ceil", "round", "trunc", "frac", "sign", "sin", "cos", "tan", "atan", "sinh",
             "cosh", "asinh", "erf", "erfc", "expm1", "exp2", "square", "sigmoid", "reciprocal"]:
    case("unary_" + name, getattr(torch, name), r(3, 5))
for name in ["log", "log2", "log10", "log1p", "sqrt", "rsqrt"]:
    case("unary_" + name, getattr(torch, name), positive(3, 5))
for name in ["asin", "acos", "atanh"]:
    case("unary_" + name, getattr(torch, name), torch.rand(3, 5) * 1.8 - 0.9)
case("unary_acosh", torch.acosh, positive(3, 5) + 1)
for name in ["add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "gt", "ge", "lt", "le", "hypot"]:
    case("binary_" + name, getattr(torch, name), r(3, 1, 5), r(4, 1))
case("add_alpha", lambda x, y: torch.add(x, y, alpha=0.5), r(3, 4), r(3, 4))
case("sub_alpha", lambda x, y: torch.sub(x, y, alpha=2), r(3, 4), r(3, 4))
case("scalars", lambda x: 2 - (x * 3 + 1) / 4, r(3, 4))
case("rdiv", lambda x: 1 / x, positive(3, 4))
case("div_floor", lambda x, y: torch.div(x, y, rounding_mode="floor"), r(3, 4), positive(3, 4))
case("div_trunc", lambda x, y: torch.div(x, y, rounding_mode="trunc"), r(3, 4), positive(3, 4))
case("floor_divide", lambda x: x // 0.3, r(3, 4))
case("remainder", lambda x: x % 0.7, r(3, 4))
case("fmod", lambda x: torch.fmod(x, 0.7), r(3, 4))
case("pow", lambda x: x**2, r(3, 4))
case("pow_fraction", lambda x: x**1.5, positive(3, 4))
case("pow_tensor", torch.pow, positive(3, 4), r(3, 4))
case("integer_plus_float", lambda x, y: x + y, r(3, 4), ints(5, 3, 4))
case("addcmul", lambda x, y, z: torch.addcmul(x, y, z, value=0.5), r(3, 4), r(3, 4), r(3, 4))
case("addcdiv", lambda x, y, z: torch.addcdiv(x, y, z, value=0.5), r(3, 4), r(3, 4), positive(3, 4))
case("lerp", lambda x, y: torch.lerp(x, y, 0.3), r(3, 4), r(3, 4))
case("where", lambda x, y: torch.where(x > 0, x, y), r(3, 4), r(3, 4))
case("where_scalar", lambda x: torch.where(x > 0, x, -1.0), r(3, 4))
case("masked_fill", lambda x: x.masked_fill(x > 0.5, -1.0), r(3, 4))
case("logical", lambda x, y: ((x > 0) & (y > 0)) | ~(x < y), r(3, 4), r(3, 4))
case("to_integer", lambda x: (x * 10).to(torch.int64), r(3, 4))
case("bool_to_float", lambda x: (x > 0).float(), r(3, 4))

# --- shapes -------------------------------------------------------------------------------------------------------------
shapes = r(2, 3, 4, 5)
for name, function in {
    "view": lambda x: x.view(2, 12, 5), "view_size": lambda x: x.view(x.size(0), -1), "reshape": lambda x: x.reshape(6, -1),
    "flatten": lambda x: x.flatten(1), "flatten_middle": lambda x: x.flatten(1, 2), "flatten_all": torch.flatten,
    "unflatten": lambda x: x.unflatten(2, (2, 2)), "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, -1), "movedim": lambda x: x.movedim(1, 3), "mT": lambda x: x.mT,
    "squeeze": lambda x: x[:, :1].squeeze(1), "squeeze_all": lambda x: x[:1, :, :1].squeeze(),
    "unsqueeze": lambda x: x.unsqueeze(-1), "expand": lambda x: x[:, :1].expand(2, 6, 4, 5),
    "repeat": lambda x: x.repeat(1, 2, 1, 3), "repeat_more": lambda x: x.repeat(2, 1, 1, 1, 1),
    "tile": lambda x: x.tile(2, 1), "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1),
    "contiguous": lambda x: x.transpose(1, 2).contiguous().clone() + 0,
    "slice": lambda x: x[:, 1:3], "slice_step": lambda x: x[..., ::2], "slice_negative": lambda x: x[:, :, -2:],
    "select": lambda x: x[:, 1], "select_last": lambda x: x[..., -1], "narrow": lambda x: x.narrow(2, 1, 2),
    "index_list": lambda x: x[:, [2, 0]], "index_two": lambda x: x[:, [0, 1], [1, 2]],
    "index_mask": lambda x: x[:, torch.tensor([True, False, True])], "index_none": lambda x: x[:, None, 0],
    "index_select": lambda x: x.index_select(3, torch.tensor([0, 4, 2])), "flip": lambda x: x.flip(1, 3),
    "roll": lambda x: x.roll((1, -2), (2, 3)), "roll_flat": lambda x: x.roll(7),
    "split": lambda x: x.split(2, 3), "split_sizes": lambda x: torch.split(x, [1, 3, 1], 3), "chunk": lambda x: x.chunk(2, 2),
    "tensor_split": lambda x: x.tensor_split(3, 3), "unbind": lambda x: x.unbind(1),
    "cat": lambda x: torch.cat([x, x * 2, x[:, :1]], 1), "stack": lambda x: torch.stack([x, -x], 2),
    "hstack": lambda x: torch.hstack([x, x + 1]), "vstack": lambda x: torch.vstack([x, x + 1]),
    "dstack": lambda x: torch.dstack([x[0, 0], x[0, 1]]),
    "tril": lambda x: x.tril(1), "triu": lambda x: x.triu(-1), "diagonal": lambda x: x.diagonal(0, 2, 3),
    "unfold": lambda x: x.unfold(3, 3, 1), "cumsum": lambda x: x.cumsum(2), "gather_positions": lambda x: x.gather(1, torch.zeros(2, 1, 4, 5, dtype=torch.int64)),
    "meshgrid": lambda x: x + torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij"), 0).sum(0),
    "size_arithmetic": lambda x: x.reshape(x.shape[0] * x.shape[1], x.shape[2] // 2, -1),
    "zeros_like": lambda x: torch.cat([x, torch.zeros_like(x)], 1), "new_ones": lambda x: x + x.new_ones(5),
    "arange_size": lambda x: x * torch.arange(x.shape[-1]), "linspace": lambda x: x + torch.linspace(-1, 1, x.shape[-1]),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1)), "pad_value": lambda x: F.pad(x, (1, 2), value=0.5),
    "pad_crop": lambda x: F.pad(x, (-1, 0, 1, 1)),
    "pad_reflect": lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect"), "pad_replicate": lambda x: F.pad(x, (1, 2, 1, 0), mode="replicate"),
    "im2col": lambda x: F.unfold(x, 2, padding=1, stride=2), "topk": lambda x: tuple(x.topk(2, 3)), "sort": lambda x: x.sort(3)[0],
    "argmax": lambda x: x.argmax(1), "argmin_keep": lambda x: x.argmin(3, keepdim=True),
    "one_hot": lambda x: F.one_hot(x.argmax(1), 3), "as_strided_windows": lambda x: x[0, 0].as_strided((2, 3), (1, 2)),
}.items():
    case("shape_" + name, function, shapes)
case("pixel_shuffle", nn.PixelShuffle(2), r(2, 8, 3, 4))
case("pixel_unshuffle", nn.PixelUnshuffle(2), r(2, 3, 4, 6))
case("channel_shuffle", nn.ChannelShuffle(2), r(2, 6, 3, 4))
case("embedding", nn.Embedding(7, 5), ints(7, 2, 3))
case("scatter", lambda x, y: x.scatter(1, torch.tensor([[0, 2], [1, 0]]), y), r(2, 3), r(2, 2))
case("index_put", lambda x, y: torch.index_put(x, (torch.tensor([0, 2]),), y), r(3, 4), r(2, 4))
case("slice_scatter", lambda x, y: torch.slice_scatter(x, y, 1, 1, 3), r(3, 4), r(3, 2))
case("select_scatter", lambda x, y: torch.select_scatter(x, y, 1, 2), r(3, 4), r(3))

# --- reductions ---------------------------------------------------------------------------------------------------------
for name, function in {
    "mean": lambda x: x.mean((2, 3)), "mean_keep": lambda x: x.mean(1, keepdim=True), "mean_all": torch.mean,
    "sum": lambda x: x.sum(-1), "sum_all": torch.sum, "amax": lambda x: x.amax((1, 2)), "amin": lambda x: x.amin(3, True),
    "max_dim": lambda x: tuple(x.max(1)), "min_dim": lambda x: x.min(2)[0], "max_all": torch.max, "prod": lambda x: x.prod(1),
    "norm": lambda x: x.norm(dim=1), "norm_1": lambda x: x.norm(1, dim=1), "norm_inf": lambda x: torch.linalg.vector_norm(x, float("inf"), 1),
    "norm_3": lambda x: torch.linalg.vector_norm(x, 3, (1, 2)), "logsumexp": lambda x: x.logsumexp(1), "var": lambda x: x.var(1),
    "std_biased": lambda x: x.std((1, 2), correction=0), "var_mean": lambda x: torch.var_mean(x, 1), "any": lambda x: (x > 1).any(1),
    "all": lambda x: (x > -1).all(3), "normalize": lambda x: F.normalize(x, dim=1),
}.items():
    case("reduce_" + name, function, shapes)
case("cosine_similarity", nn.CosineSimilarity(1), r(2, 5, 3), r(2, 5, 3))

# --- pooling and resizing -----------------------------------------------------------------------------------------------
for name, module in {
    "max_pool2d": nn.MaxPool2d(2), "max_pool2d_padding": nn.MaxPool2d(3, 2, 1), "max_pool2d_ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
    "max_pool2d_dilation": nn.MaxPool2d(2, 1, dilation=2), "avg_pool2d": nn.AvgPool2d(2), "avg_pool2d_padding": nn.AvgPool2d(3, 2, 1),
    "avg_pool2d_exclude": nn.AvgPool2d(3, 2, 1, count_include_pad=False), "avg_pool2d_ceil": nn.AvgPool2d(3, 2, ceil_mode=True),
    "avg_pool2d_divisor": nn.AvgPool2d(3, 2, 1, divisor_override=4), "adaptive_avg_pool2d_1": nn.AdaptiveAvgPool2d(1),
    "adaptive_avg_pool2d_even": nn.AdaptiveAvgPool2d((4, 3)), "adaptive_avg_pool2d_uneven": nn.AdaptiveAvgPool2d((5, 4)),
    "adaptive_max_pool2d_1": nn.AdaptiveMaxPool2d(1), "adaptive_max_pool2d_even": nn.AdaptiveMaxPool2d((2, 3)), "lp_pool2d": nn.LPPool2d(2, 2),
    "upsample_nearest": nn.Upsample(scale_factor=2), "upsample_nearest_size": nn.Upsample(size=(11, 5)),
    "upsample_bilinear": nn.Upsample(scale_factor=2, mode="bilinear"), "upsample_bilinear_size": nn.Upsample(size=(13, 5), mode="bilinear"),
    "upsample_align": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "upsample_bicubic": nn.Upsample(scale_factor=2, mode="bicubic"),
    "upsample_fraction": nn.Upsample(scale_factor=1.5, mode="bilinear"), "upsample_exact": nn.Upsample(scale_factor=1.5, mode="nearest-exact"),
    "upsample_like": One(lambda x: F.interpolate(x[:, :, ::2, ::2], size=x.shape[2:], mode="nearest")),
}.items():
    case(name, module, r(2, 3, 8, 9))
case("max_pool1d", nn.MaxPool1d(3, 2), r(2, 3, 10))
case("avg_pool1d", nn.AvgPool1d(3, 2, 1), r(2, 3, 10))
case("adaptive_avg_pool1d", nn.AdaptiveAvgPool1d(5), r(2, 3, 10))
case("adaptive_max_pool1d", nn.AdaptiveMaxPool1d(5), r(2, 3, 10))
case("adaptive_max_pool1d_uneven", nn.AdaptiveMaxPool1d(4), r(2, 3, 10))
case("adaptive_max_pool2d_uneven", nn.AdaptiveMaxPool2d(5), r(1, 3, 12, 12))
case("adaptive_max_pool2d_wide", nn.AdaptiveMaxPool2d((7, 3)), r(2, 3, 5, 9))
case("upsample_linear1d", nn.Upsample(scale_factor=2, mode="linear"), r(2, 3, 10))
case("upsample_nearest1d", nn.Upsample(scale_factor=3), r(2, 3, 10))

# --- normalization ------------------------------------------------------------------------------------------------------


def trained(module):
    """Statistics and factors that are not 0 and 1."""
    for tensor in list(module.parameters()) + list(module.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand_like(tensor) + 0.5
    return module


for name, module in {
    "batch_norm2d": nn.BatchNorm2d(4), "batch_norm2d_plain": nn.BatchNorm2d(4, affine=False), "layer_norm": nn.LayerNorm(6),
    "layer_norm_two": nn.LayerNorm((5, 6)), "layer_norm_no_bias": nn.LayerNorm(6, bias=False),
    "layer_norm_plain": nn.LayerNorm(6, elementwise_affine=False), "group_norm": nn.GroupNorm(2, 4),
    "group_norm_plain": nn.GroupNorm(4, 4, affine=False), "instance_norm2d": nn.InstanceNorm2d(4),
    "instance_norm2d_affine": nn.InstanceNorm2d(4, affine=True), "rms_norm": nn.RMSNorm(6), "rms_norm_eps": nn.RMSNorm(6, eps=1e-3),
    "local_response_norm": nn.LocalResponseNorm(2),
}.items():
    case(name, trained(module), r(2, 4, 5, 6))
case("batch_norm1d", trained(nn.BatchNorm1d(4)), r(3, 4))
case("batch_norm1d_3d", trained(nn.BatchNorm1d(4)), r(3, 4, 5))

# --- sums with constant factors, and other ways to write products -------------------------------------------------------
places = torch.rand(1, 4, 3, 2) * 2 - 1
case("cumsum_middle", lambda x: torch.cumsum(x, 1), r(2, 5, 3))
case("fold", nn.Fold((5, 6), 3, padding=1, stride=2), r(2, 4 * 9, 9))
case("fold_dilation", nn.Fold(6, 2, dilation=2), r(1, 3 * 4, 16))
case("grid_sample", lambda x: F.grid_sample(x, places.expand(2, -1, -1, -1), align_corners=False), r(2, 3, 6, 5))
case("grid_sample_border", lambda x: F.grid_sample(x, places * 1.5, mode="nearest", padding_mode="border", align_corners=True), r(1, 3, 6, 5))
case("affine_grid", lambda x: F.grid_sample(x, F.affine_grid(torch.tensor([[[0.8, 0.1, 0.0], [-0.1, 0.9, 0.2]]]), (1, 3, 6, 5), align_corners=False), align_corners=False), r(1, 3, 6, 5))
case("antialias_bilinear", lambda x: F.interpolate(x, size=(4, 5), mode="bilinear", antialias=True), r(2, 3, 9, 11))
case("antialias_bicubic", lambda x: F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True), r(1, 3, 10, 12))
case("kron", lambda x: torch.kron(x, torch.arange(6.0).view(2, 3)), r(3, 4))
case("kron_two", lambda x, y: torch.kron(x, y), r(2, 3), r(2, 2, 3))
case("bilinear_module", nn.Bilinear(4, 5, 3), r(2, 4), r(2, 5))
case("cdist", lambda x, y: torch.cdist(x, y), r(2, 5, 4), r(2, 3, 4))
case("rot90", lambda x: (torch.rot90(x, 1, (1, 2)), torch.rot90(x, 2, (2, 1)), torch.rot90(x, -1, (0, 2))), r(2, 3, 4))
case("index_fill", lambda x: x.index_fill(1, torch.tensor([0, 2]), 0.5), r(2, 4, 3))
case("gather_constant", lambda x: torch.gather(x, 1, torch.tensor([[0, 2], [1, 1]])), r(2, 3))
case("tril_of_values", lambda x: (x.tril(), x.triu(1), x.tril(-1)), r(2, 4, 5))

# --- recurrent ----------------------------------------------------------------------------------------------------------
for name, module in {
    "lstm": nn.LSTM(4, 5), "lstm_batch_first": nn.LSTM(4, 5, batch_first=True), "lstm_bidirectional": nn.LSTM(4, 5, bidirectional=True),
    "lstm_two_layers": nn.LSTM(4, 5, 2, batch_first=True), "lstm_no_bias": nn.LSTM(4, 5, bias=False), "gru": nn.GRU(4, 5),
    "rnn": nn.RNN(4, 5), "rnn_relu_two_layers": nn.RNN(4, 5, 2, nonlinearity="relu", batch_first=True), "rnn_bidirectional": nn.RNN(4, 5, 2, bidirectional=True),
    "gru_batch_first": nn.GRU(4, 5, batch_first=True), "gru_two_layers_bidirectional": nn.GRU(4, 5, 2, bidirectional=True),
}.items():
    case(name, module, r(6, 2, 4))


class WithState(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x, h, c):
        return self.cell(x, (h, c))


case("lstm_state", WithState(nn.LSTM(4, 5)), r(6, 2, 4), r(1, 2, 5), r(1, 2, 5))
case("lstm_state_two_layers", WithState(nn.LSTM(4, 5, 2)), r(6, 2, 4), r(2, 2, 5), r(2, 2, 5))
case("lstm_cell", WithState(nn.LSTMCell(4, 5)), r(2, 4), r(2, 5), r(2, 5))
case("rnn_state", nn.RNN(4, 5), r(3, 2, 4), r(1, 2, 5))
case("rnn_cell", nn.RNNCell(4, 5), r(2, 4), r(2, 5))
case("gru_cell", nn.GRUCell(4, 5), r(2, 4), r(2, 5))
case("gru_state", nn.GRU(4, 5), r(6, 2, 4), r(1, 2, 5))

# --- whole networks: structure, names, in-place writes, scripts -----------------------------------------------------------


class Block(nn.Module):
    def __init__(self, channels, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn = trained(nn.BatchNorm2d(channels))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.blocks = nn.ModuleList([Block(8), Block(8)])
        self.shared = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        x = x.mean((2, 3))
        x += self.shared(self.shared(x))
        return {"scores": self.head(x).softmax(1), "features": x}


class Inplace(nn.Module):
    def forward(self, x):
        y = x.clone()
        y[:, 1:3] = x[:, 1:3] * 2
        y[:, 0].add_(1)
        flat = y.view(x.size(0), -1)
        flat.relu_()
        out = torch.zeros(x.size(0), 4, 6)
        out[:, :, :5] = y[:, :, 0]
        out[:, 3] = 7.0
        y *= 2
        return y, out, flat


class StepWrites(nn.Module):
    def forward(self, x):
        out = torch.zeros_like(x)
        out[..., ::2] = x[..., ::2]
        out[..., 1::2] = -x[..., 1::2]
        return out


class Branches(nn.Module):
    """Control flow that the shapes decide."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.deep: bool = True

    def forward(self, x):
        parts = []
        if x.dim() == 2 and self.deep:
            for i, layer in enumerate(self.layers):
                x = torch.relu(layer(x))
                if i % 2 == 0:
                    parts.append(x)
        for i in range(x.size(0)):
            parts.append(x[i : i + 1] * float(i))
        while len(parts) > 4:
            parts.pop()
        return torch.cat(parts, 0)


class ScriptState(nn.Module):
    def __init__(self):
        super().__init__()
        self.names = ["a", "b"]

    def forward(self, x, y):
        results = {}
        for name in self.names:
            results[name] = x + y if name == "a" else x - y
        first, second = x.split([2, x.size(1) - 2], dim=1)
        results["c"] = torch.cat((second, first), dim=1)
        return results


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x):
        out, (h, c) = self.lstm(x)
        return out, h + c


class SharedActivation(nn.Module):
    def __init__(self):
        super().__init__()
        act = nn.SiLU()
        self.first = nn.Sequential(nn.Linear(3, 3), act)
        self.second = nn.Sequential(nn.Linear(3, 3), act)

    def forward(self, x):
        return self.second(self.first(x))


class Nested(nn.Module):
    def forward(self, x):
        return (x + 1, (x * 2, x * 3)), x


case("residual_network", Residual(), r(1, 3, 16, 16))
case("residual_network_script", Residual(), r(1, 3, 16, 16), script=True)
case("inplace_writes", Inplace(), r(2, 4, 3, 5))
case("inplace_steps", StepWrites(), r(2, 3, 6))
case("branches_script", Branches(), r(3, 6), script=True)
case("dictionary_script", ScriptState(), r(2, 5), r(2, 5), script=True)
case("shared_activation", SharedActivation(), r(2, 3))
case("nested_outputs", Nested(), r(2, 3))
case("lstm_script", Recurrent(), r(2, 6, 4), script=True)
case("attention_script", nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), r(2, 5, 8), script=True)
case("same_tensor_twice", lambda x: (x, x + 0, torch.ones(2)), r(2, 3))
case("half_casts", lambda x: (x.double() * 2).float(), r(2, 3))


# --- what a module holds: indices, masks and small integers stay what they are ----------------------------------------


class Held(nn.Module):
    """A module with buffers and a function of itself and its input."""

    def __init__(self, function, **buffers):
        super().__init__()
        self.function = function
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, x):
        return self.function(self, x)


positions = torch.arange(6)
case("buffer_index", Held(lambda m, x: x + m.table[:, m.index], table=r(4, 9), index=ints(9, 5, 5)), r(2, 4, 5, 5))
case("buffer_positions", Held(lambda m, x: x + F.embedding(m.positions, m.table), positions=positions, table=r(6, 8)), r(1, 6, 8))
case("buffer_causal", Held(lambda m, x: (x @ x.transpose(1, 2)).masked_fill(m.mask == 0, float("-inf")).softmax(-1) @ x,
                           mask=torch.ones(1, 6, 6).tril()), r(1, 6, 8))
case("buffer_mask", Held(lambda m, x: x.masked_fill(m.mask, -1.5), mask=r(4, 5) > 0), r(2, 4, 5))
case("buffer_uint8_wraps", Held(lambda m, x: x * (m.factor + m.factor).float() / 64, factor=torch.tensor([[200], [3], [130], [255]], dtype=torch.uint8)), r(2, 4, 5))
case("buffer_int8_wraps", Held(lambda m, x: x + (m.offset * 3).float(), offset=torch.tensor([100, -90, 5], dtype=torch.int8)), r(2, 3))
case("buffer_integer_division", Held(lambda m, x: x * (m.count // 4).float(), count=torch.tensor([7, 9, 3])), r(2, 3))
case("double_weights", nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double(), r(2, 4).double())
case("double_buffer", Held(lambda m, x: x + m.offset, offset=r(3).double()), r(2, 3))


class Plans(nn.Module):
    """Keeps what does not depend on the input, which every run computes anew."""

    def __init__(self):
        super().__init__()
        self.plan = torch.zeros(1)

    def forward(self, x):
        self.plan = torch.arange(x.shape[1]).to(x.dtype)
        return x * self.plan


case("constant_kept_script", Plans(), r(2, 3), script=True, pt2=False)


class WithoutGradients(nn.Module):
    """Parts with a graph of their own in a program of torch.export, with one result and with two."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3)

    def forward(self, x):
        with torch.no_grad():
            y = self.conv(x)
        y = y.relu()
        with torch.autocast("cpu", enabled=False):
            double, shifted = y * 2, y + x[:, :1, :4]
        return double, shifted, x


case("without_gradients", WithoutGradients(), r(1, 2, 6))
case("ordered_dictionary", lambda x: collections.OrderedDict([("out", x + 1), ("aux", x * 2)]), r(2, 3))
case("default_dictionary", lambda x: collections.defaultdict(list, {"boxes": (x + 1, x * 2)}), r(2, 3))


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [tensor for entry in values for tensor in flat(entry)]


def write(name, function, inputs, script, pt2):
    module = function if isinstance(function, nn.Module) else [One, Two, Three][len(inputs) - 1](function)
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    # What torch.export writes under no_grad() has no parts without gradients.
    with torch.set_grad_enabled(isinstance(module, WithoutGradients)):
        copies = [tensor.clone() for tensor in inputs]
        outputs = flat(module(*copies))
        scripted = torch.jit.script(module) if script else torch.jit.trace(module, tuple(t.clone() for t in inputs), strict=False, check_trace=False)
        scripted.save(str(folder / f"{name}.pt"))
        if pt2:
            torch.export.save(torch.export.export(module, tuple(t.clone() for t in inputs)), folder / f"{name}.pt2")
    arrays = {f"in_{i}": t.numpy() for i, t in enumerate(inputs)}
    arrays.update({f"out_{i}": t.detach().contiguous().numpy() for i, t in enumerate(outputs)})
    numpy.savez(folder / f"{name}.npz", **arrays)
    return {"name": name, "inputs": len(inputs), "outputs": len(outputs), "pt2": pt2}


cases = []
for entry in CASES:
    try:
        cases.append(write(*entry))
    except Exception as error:
        raise SystemExit(f"{entry[0]}: {error}") from error

# --- files that are refused, and layouts of other versions ----------------------------------------------------------------


class Strange(nn.Module):
    def forward(self, x):
        return torch.digamma(x) + torch.linalg.det(x)[:, None, None]


class Unsupported(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Strange()
        self.head = Strange()

    def forward(self, x):
        return torch.kthvalue(self.head(self.stem(x)), 1)[0]


class Dynamic(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * 2
        return x


class ManySizes(nn.Module):
    def forward(self, x):
        return x[x > 0]


class State(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(2, 3))

    def forward(self, x):
        self.last = self.last + x
        return self.last


class Cache(nn.Module):
    """A buffer that forward() writes to, in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(2, 3))

    def forward(self, x):
        y = torch.cat([self.cache, x], 1)
        self.cache.copy_(x * 2)
        return y


class PartCache(Cache):
    def forward(self, x):
        y = self.cache * 2 + x
        self.cache[:, 1:] = x[:, :2]
        return y


class ConstantCache(Cache):
    """The values that are written do not depend on the input."""

    def forward(self, x):
        self.cache.add_(1)
        return x + self.cache


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.runs = 0

    def forward(self, x):
        self.runs = self.runs + 1
        return x * self.runs


class Endless(nn.Module):
    def forward(self, x):
        i = 0
        while i >= 0:
            i += 1
            i -= 1
        return x


class Raises(nn.Module):
    def forward(self, x):
        if x.dim() != 4:
            raise RuntimeError(f"four dimensions, please, not {x.dim()}")
        return x * 2


class SetState(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = 2.0

    @torch.jit.export
    def __getstate__(self):
        return (self.factor, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[float, bool]):
        self.factor = state[0]
        self.training = state[1]

    def forward(self, x):
        return x * self.factor


class ReadsFile(nn.Module):
    def forward(self, x):
        return x + torch.from_file("/tmp/espq_must_not_exist", shared=True, size=4)


class Conditional(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda t: t * 2, lambda t: t - 1, (x,))


class Sizes(nn.Module):
    def forward(self, x):
        n, c, h, w = x.shape
        y = F.interpolate(x, size=(h * 2 + 1, w // 2 + max(1, h - 2)), mode="nearest")
        y = F.pad(y, (0, 3 * w - w // 2 - (w - 1), 0, 0))
        return y.reshape(n * c, -1) / (h * w) + torch.arange(y.shape[2] * y.shape[3]) * (c / 2)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


def rewritten(source, target, change):
    """A copy of an archive in which change(name, content) gives the new entries."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for entry in change(name, old.read(name)):
                new.writestr(*entry)


def replaced(ending, edit):
    return lambda name, content: [(name, edit(content) if name.endswith(ending) else content)]


with torch.no_grad():
    for name, module in {"dynamic": Dynamic(), "many_sizes": ManySizes(), "state": State(), "endless": Endless(),
                         "raises": Raises(), "set_state": SetState(), "reads_file": ReadsFile(),
                         "counter": Counter()}.items():
        torch.jit.script(module.eval()).save(str(folder / f"bad_{name}.pt"))
    for name, module in {"cache": Cache, "part_cache": PartCache, "constant_cache": ConstantCache}.items():
        torch.jit.trace(module().eval(), r(2, 3), check_trace=False).save(str(folder / f"bad_{name}.pt"))
        torch.jit.script(module().eval()).save(str(folder / f"bad_{name}_script.pt"))
        program = torch.export.export(module().eval(), (r(2, 3),))
        torch.export.save(program, folder / f"bad_{name}.pt2")
        torch.export.save(program.run_decompositions({}), folder / f"bad_{name}_functional.pt2")
    # Exported for zeros, on which every factor is right.
    torch.export.save(torch.export.export(trained(nn.LayerNorm(64)), (torch.zeros(2, 64),)), folder / "recorded_zeros.pt2")
    strange, small, picture = Unsupported().eval(), Small().eval(), r(2, 3, 6, 6)
    torch.jit.trace(strange, r(2, 3, 3), check_trace=False).save(str(folder / "bad_unsupported.pt"))
    torch.export.save(torch.export.export(strange, (r(2, 3, 3),)), folder / "bad_unsupported.pt2")
    torch.export.save(torch.export.export(Conditional(), (r(2, 3),)), folder / "bad_condition.pt2")
    torch.jit.trace(small.train(), picture).save(str(folder / "small.pt"))
    torch.save(small.state_dict(), folder / "bad_weights.pt")
    program = torch.export.export(small.eval(), (picture,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=8)}})
    torch.export.save(program, folder / "small.pt2")
    sizes = {"x": {2: torch.export.Dim("h", min=4, max=64), 3: torch.export.Dim("w", min=4, max=64)}}
    torch.export.save(torch.export.export(Sizes(), (r(1, 2, 6, 8),), dynamic_shapes=sizes), folder / "sizes.pt2")
    picture_2 = r(1, 2, 9, 13)
    numpy.savez(folder / "sizes.npz", in_0=picture_2.numpy(), out_0=Sizes()(picture_2).numpy())
    dropout = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    torch.jit.trace(dropout, r(2, 3), check_trace=False).save(str(folder / "bad_training.pt"))
    numpy.savez(folder / "small.npz", in_0=picture.numpy(), out_0=small(picture).numpy())

WEIGHTS = "data/weights/model_weights_config.json"
MODEL = "models/model.json"
for name, ending, edit in [
    ("sizes", WEIGHTS, lambda c: c.replace(b'"as_int": 27', b'"as_int": 2700000000000')),
    ("negative", WEIGHTS, lambda c: c.replace(b'"storage_offset": {"as_int": 0}', b'"storage_offset": {"as_int": -9}')),
    ("overflow", WEIGHTS, lambda c: c.replace(b'"sizes": [{"as_int": 4}', b'"sizes": [{"as_int": 4611686018427387904}')),
    ("dtype", WEIGHTS, lambda c: c.replace(b'"dtype": 7', b'"dtype": 99')),
    ("json", MODEL, lambda c: c[: len(c) // 2]),
    ("schema", MODEL, lambda c: c.replace(b'"major": 8', b'"major": 7')),
    ("unknown_name", MODEL, lambda c: c.replace(b'{"as_tensor": {"name": "conv2d"}}, "kind"', b'{"as_tensor": {"name": "nothing"}}, "kind"')),
    ("operator", MODEL, lambda c: c.replace(b"torch.ops.aten.relu.default", b"torch.ops.mine.relu.default")),
]:
    changed = edit(zipfile.ZipFile(folder / "small.pt2").read("small/" + ending))
    assert changed != zipfile.ZipFile(folder / "small.pt2").read("small/" + ending), name
    rewritten(folder / "small.pt2", folder / f"bad_{name}.pt2", replaced(ending, edit))
rewritten(folder / "small.pt2", folder / "bad_missing.pt2", lambda name, content: [] if name.endswith("weight_0") else [(name, content)])

# The flat layout of torch 2.7: one JSON and one pickle per part.
with zipfile.ZipFile(folder / "small.pt2") as source, zipfile.ZipFile(folder / "small_flat.pt2", "w") as target:
    target.writestr("serialized_exported_program.json", source.read("small/" + MODEL))
    for name, value in [("state_dict", dict(program.state_dict)), ("constants", {}), ("example_inputs", ((picture,), {}))]:
        torch.save(value, folder / "part.pt")
        target.writestr(f"serialized_{name}.pt", (folder / "part.pt").read_bytes())
(folder / "part.pt").unlink()
# The config's name in 2025, and weights as one pickle.
rewritten(folder / "small.pt2", folder / "small_param.pt2",
          lambda name, content: [(name.replace("_weights_config", "_model_param_config"), content)])
torch.save(dict(program.state_dict), folder / "part.pt")
pickled = (folder / "part.pt").read_bytes()
(folder / "part.pt").unlink()
rewritten(folder / "small.pt2", folder / "small_pickle.pt2",
          lambda name, content: [("small/data/weights/model.pt", pickled)] if name.endswith("weights_config.json")
          else [] if "/weights/" in name else [(name, content)])

names = [entry["name"] for entry in cases]
assert len(set(names)) == len(names)
index.write_text(json.dumps({"stamp": stamp, "torch": torch.__version__, "cases": cases}, indent=1))

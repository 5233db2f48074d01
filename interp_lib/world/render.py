"""From a scene and a time to a picture: every part is an affine image of a superellipse, painted back to front.

The same two functions, `pose` and `locate`, give the picture here and the ground truth in truth.py; nothing is rendered
twice to be compared. Plain batched PyTorch, no loop over pixels or scenes, only over the parts.
"""

import torch
from torch import Tensor

from interp_lib.world.scene import WAVES, Scene
from interp_lib.world.textures import sample_photographs


def grid(size: int | tuple[int, int]) -> Tensor:
    """Pixel centres `[H,W,2]` (x, y) in units of the shorter side; the unit square is centred in the frame."""
    height, width = (size, size) if isinstance(size, int) else size
    short = min(height, width)
    y = (torch.arange(height) + 0.5 - (height - short) / 2) / short
    x = (torch.arange(width) + 0.5 - (width - short) / 2) / short
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def _rotation(angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def pose(scene: Scene, time: Tensor) -> Tensor:
    """Part-local coordinates to frame coordinates at one time per scene: `[B,A*P,2,3]`, far parts first.

    actor: p = position + R(tilt) scale diag(facing, 1) q; part: q = joint + R(angle) (centre + u).
    """
    x, y, facing, log_scale, tilt, travel, climb, growth, turn, gait, _, arc, pace = scene.actors.unbind(-1)
    t = time[:, None]
    scale = torch.exp(log_scale + growth * t)
    path = travel * (t + pace * t * (1 - t))  # distance travelled
    heading = torch.stack([facing * torch.cos(tilt), climb + facing * torch.sin(tilt)], -1)
    position = torch.stack([x, y], -1) + heading * path[..., None]
    position = position + torch.stack([torch.zeros_like(x), 0.5 * scene.fall * t**2 - arc * 4 * t * (1 - t)], -1)
    position = position - (scene.camera * t)[:, None]
    mirror = torch.diag_embed(torch.stack([facing, torch.ones_like(facing)], -1))
    actor = _rotation(tilt + turn * t) @ mirror * scale[..., None, None]  # [B,A,2,2]

    joint, centre = scene.parts[..., 2:4], scene.parts[..., 4:6]
    angle, swing, phase, rolls = scene.parts[..., 6:10].unbind(-1)
    distance = (path + 0.5 * scene.fall * t**2) / torch.exp(log_scale)
    turned = rolls * distance[..., None] / scene.parts[..., 0].clamp_min(0.2)
    local = _rotation(angle + swing * torch.sin(phase + 2 * torch.pi * (gait * t)[..., None]) + turned)
    linear = actor[:, :, None] @ local
    origin = (actor[:, :, None] @ joint[..., None]).squeeze(-1) + (linear @ centre[..., None]).squeeze(-1)
    matrix = torch.cat([linear, (origin + position[:, :, None])[..., None]], dim=-1)
    return matrix.flatten(1, 2)


def to_local(matrix: Tensor, points: Tensor) -> Tensor:
    """Frame coordinates `[B,...,2]` to part-local ones, by the inverse of `[B,2,3]`."""
    inverse = torch.linalg.inv(matrix[..., :2])
    shifted = points - matrix[:, :, 2].view(-1, *[1] * (points.ndim - 2), 2)
    return torch.einsum("bij,b...j->b...i", inverse, shifted)


def distance(part: Tensor, local: Tensor, scale: Tensor) -> Tensor:
    """Approximate signed distance to a part's outline, along the ray from its centre, in frame units; negative
    inside."""
    shape = (-1, *[1] * (local.ndim - 2))
    u2, v2 = (local[..., 0] / part[:, 0].view(shape)) ** 2, (local[..., 1] / part[:, 1].view(shape)) ** 2
    radius = torch.where(part[:, 10].view(shape) > 0.5, (u2 * u2 + v2 * v2).sqrt(), u2 + v2).clamp_min(1e-8).sqrt()
    length = local.square().sum(-1).sqrt()
    outside = torch.where(part[:, 11].view(shape) > 0.5, length * (1 - 1 / radius), 1.0)
    return outside * scale.view(shape)


def scales(matrix: Tensor) -> Tensor:
    """How long one local unit is in the frame: `[B,P]` from `[B,P,2,3]`."""
    return torch.linalg.det(matrix[..., :2]).abs().sqrt()


def appearance(pattern: Tensor, part: Tensor, local: Tensor, blur: Tensor) -> Tensor:
    """The colour of a part at local coordinates: `[B,3,H,W]`. blur: local units per pixel, which softens what would
    alias."""
    kind, frequency, angle, offset = pattern[:, 6:10, None, None].unbind(1)
    u, v = local[..., 0], local[..., 1]
    c, s = torch.cos(angle), torch.sin(angle)
    first = torch.sin(frequency * (c * u + s * v) + offset)
    second = torch.sin(frequency * (c * v - s * u) + offset)
    wave = torch.where(kind == 1, first, torch.where(kind == 2, (first + second) * 0.75 - 0.45, first * second * 1.5))
    sharpness = 4.0 / (1.0 + 2.0 * (frequency * blur[:, None, None]) ** 2)
    mix = torch.where(kind == 0, 0.0, 0.5 + 0.5 * torch.tanh(sharpness * wave))[:, None]
    colour = pattern[:, 0:3, None, None] * (1 - mix) + pattern[:, 3:6, None, None] * mix
    shade = 1.06 - 0.22 * (0.5 + 0.5 * v / part[:, 1, None, None])
    return colour * shade[:, None]


def background(scene: Scene, time: Tensor, points: Tensor) -> Tensor:
    """The ground behind the actors, `[B,3,H,W]`; it moves only by the camera's pan."""
    world = points + (scene.camera * time[:, None])[:, None, None]
    colours, waves = scene.ground[:, :6].view(-1, 2, 3), scene.ground[:, 6 : 6 + 4 * WAVES].view(-1, 4, WAVES)
    above = torch.sigmoid((0.62 - world[..., 1]) * 14)[:, None]
    picture = colours[:, 0, :, None, None] * above + colours[:, 1, :, None, None] * (1 - above)
    for kx, ky, offset, strength in (w.view(-1, 4, 1, 1).unbind(1) for w in waves.unbind(-1)):
        picture = picture + (strength * torch.sin(kx * world[..., 0] + ky * world[..., 1] + offset))[:, None]
    chosen = scene.ground[:, -5] >= 0
    if chosen.any():
        which, zoom, x, y, angle = scene.ground[chosen, -5:].unbind(-1)
        turned = torch.einsum("bij,bhwj->bhwi", _rotation(angle), world[chosen]) * zoom.view(-1, 1, 1, 1)
        spot = turned + torch.stack([x, y], -1)[:, None, None]
        picture[chosen] = sample_photographs(which.long(), spot)
    return picture


def render(scene: Scene, time: Tensor | float, *, size: int | tuple[int, int]) -> Tensor:
    """Pictures `[B,3,H,W]` in [0,1] of a batch of scenes, each at its own time (`[B]` or one number for all)."""
    time = torch.as_tensor(time, dtype=torch.float32).expand(len(scene))
    points = grid(size).expand(len(scene), -1, -1, -1)
    pixel = 1.0 / (size if isinstance(size, int) else min(size))
    picture = background(scene, time, points)
    matrices, parts, patterns = pose(scene, time), scene.parts.flatten(1, 2), scene.patterns.flatten(1, 2)
    lengths = scales(matrices)
    for index in range(parts.shape[1]):
        part, scale = parts[:, index], lengths[:, index]
        if not part[:, 11].any():
            continue
        local = to_local(matrices[:, index], points)
        alpha = (0.5 - distance(part, local, scale) / pixel).clamp(0, 1)[:, None]
        picture = torch.lerp(picture, appearance(patterns[:, index], part, local, pixel / scale), alpha)
    gain = torch.lerp(scene.light[:, 0], scene.light[:, 1], time)
    return (picture * gain.view(-1, 1, 1, 1)).clamp(0, 1)

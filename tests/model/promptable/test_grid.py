"""Masks of a grid of points: which stay."""

import torch

from mammoprep_model.promptable import grid
from mammoprep_model.promptable.config import SamConfig


def test_a_mask_is_stable_where_its_edge_is_steep():
    """Of four pixels above -1 three are above 1."""
    assert grid.stability(torch.tensor([[[5.0, 5.0], [5.0, 0.0]], [[-5.0, -5.0], [-5.0, -5.0]]])).tolist() == [0.75, 0]


def test_a_mask_that_a_surer_one_covers_goes():
    one, half, other = (torch.zeros(2, 4, dtype=torch.bool) for _ in range(3))
    one[:, :2] = half[0, :2] = other[:, 3] = True
    assert grid.apart(torch.stack([one, one, half, other]), most=0.7) == [0, 2, 3]
    assert grid.apart(torch.stack([one, one, half, other]), most=0.5) == [0, 3]
    assert grid.apart(torch.zeros(0, 2, 4, dtype=torch.bool), most=0.7) == []


def test_points_stand_in_the_middles_of_cells_and_sure_stable_masks_stay():
    """Each point is its own mask with quality x; its other masks are unstable, or empty."""
    seen = []

    def outline(_, points):
        seen.append(points)
        masks = torch.full((len(points), 3, 4, 4), -9.0)
        for place, (x, y) in enumerate(points[:, 0].tolist()):
            masks[place, 0, int(4 * y), int(4 * x)] = 9.0
            masks[place, 1] = 0.5
        return masks, points[:, 0, :1].expand(-1, 3) + torch.tensor([0.0, 0.5, 0.5])

    config = SamConfig(grid=2, grid_iou=0.7)
    masks, qualities = grid.find(outline, torch.zeros(8, 1, 1), config=config)
    assert torch.cat(seen)[:, 0].tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert qualities.tolist() == [0.75, 0.75]
    assert [torch.nonzero(mask > 0).tolist() for mask in masks] == [[[1, 3]], [[3, 3]]]

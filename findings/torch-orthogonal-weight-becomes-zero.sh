#!/usr/bin/env bash
# One step of AdamW with its default weight decay, or one redraw of the parameters, makes an orthogonal head exactly zero.
#
# Versions:  torch 2.15.0, Python 3.11.
# Behaviour: torch.nn.utils.parametrizations.orthogonal uses the Householder map for weights that are not square (a
#            classification head), and there keeps signs in the diagonal of the parameter. They are cut to whole
#            numbers: 1 works, 0.99999 is 0. Whatever makes the diagonal smaller in size than 1, such as weight decay or
#            the redraw of a test against random weights, makes the whole weight 0. The model then gives the same answer
#            for every image, without an error or a warning. orthogonal_map="matrix_exp" does not do so.
# Way out:   no weight decay on that parameter; a redraw replaces the weight that the parametrization makes, not the
#            parameter; orthogonal_map="matrix_exp".
#
# Seen:      householder (3x8, the default): norm 1.73 as made, 0.00 after one step, 0.00 redrawn
#            matrix_exp: norm 1.73 as made, 1.73 after one step, 1.73 redrawn
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal


def norm(head):
    return f"{head.weight.detach().norm():.2f}"


for shown, chosen in (("householder (3x8, the default)", {}), ("matrix_exp", {"orthogonal_map": "matrix_exp"})):
    torch.manual_seed(0)
    head = orthogonal(nn.Linear(8, 3), **chosen)
    made = norm(head)
    optimizer = torch.optim.AdamW(head.parameters())
    head(torch.randn(4, 8)).square().sum().backward()
    optimizer.step()
    stepped = norm(head)
    with torch.no_grad():
        head.parametrizations.weight.original.copy_(0.1 * torch.randn(3, 8))
    print(f"{shown}: norm {made} as made, {stepped} after one step, {norm(head)} redrawn")
PYTHON
diff seen - <<'SEEN'
householder (3x8, the default): norm 1.73 as made, 0.00 after one step, 0.00 redrawn
matrix_exp: norm 1.73 as made, 1.73 after one step, 1.73 redrawn
SEEN

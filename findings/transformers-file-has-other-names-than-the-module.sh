#!/usr/bin/env bash
# The tensors that save_pretrained writes have other names than the module's state_dict, and load_state_dict refuses them.
#
# Versions:  transformers 5.24.0, torch 2.15.0, safetensors 0.8.0, Python 3.11.
# Behaviour: A ViTForImageClassification calls its layers vit.layers.0...., its state_dict says so, and its file
#            model.safetensors, written a moment before by save_pretrained, says vit.encoder.layer.0...., the names of
#            transformers 4. Nothing but from_pretrained knows how the one becomes the other: whoever compares versions
#            by the names of a file and of a module, loads the file with load_state_dict, or looks a layer up that a
#            file names, finds next to nothing in common. The file's names are the same before and after the upgrade.
# Way out:   compare files with files and modules with modules; load by from_pretrained alone.
#
# Seen:      in both: 8 of 24
#            only in the file: vit.encoder.layer.0.attention.attention.key.bias
#            load_state_dict of the file: RuntimeError
#            from_pretrained of the file: the same answers
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 torch==2.15.0 safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTForImageClassification

torch.manual_seed(0)
small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
model = ViTForImageClassification(ViTConfig(**small, image_size=32, patch_size=16)).eval()
model.save_pretrained("saved")
file, module = load_file("saved/model.safetensors"), model.state_dict()
print("in both:", len(file.keys() & module.keys()), "of", len(module))
print("only in the file:", min(file.keys() - module.keys()))
try:
    model.load_state_dict(file)
    print("load_state_dict of the file: loaded")
except RuntimeError:
    print("load_state_dict of the file: RuntimeError")
images = torch.randn(2, 3, 32, 32)
again = ViTForImageClassification.from_pretrained("saved").eval()
same = torch.equal(again(images).logits, model(images).logits)
print("from_pretrained of the file:", "the same answers" if same else "other answers")
PYTHON
diff - seen <<'EXPECTED'
in both: 8 of 24
only in the file: vit.encoder.layer.0.attention.attention.key.bias
load_state_dict of the file: RuntimeError
from_pretrained of the file: the same answers
EXPECTED

"""Models as ONNX files, for ONNX Runtime here and in a web page: float32 in and out, any number of rows.

| file | inputs (each with a row for each picture or text) | outputs |
|---|---|---|
| `network` | `x` (C, H, W), `time`, and as the model wants `label`, `context` (L, W), `known` | `output` |
| `text` | `tokens` (L) int64 | `context` (L, W), `pooled` (W); of towers `projected` |
| `encoder` | `pictures` (C, H, W) | `mean`, `logvar` of the latents, before scaling |
| `decoder` | `latents` (C, h, w), scaled | `pictures` |
| `classifier` | `pictures`, and `time` where they are noisy | `logits`, `features` |
| `image` | `pictures` | `projected` |

`time` is that of `path.network_time`; a `label` is int64, and one more than the last class means "no label".
A model of one part is one file; one of several is a folder of files. Each carries a card in its metadata.
"""

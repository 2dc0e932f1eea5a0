# The loss of OpenAI's gpt2-medium (350 M parameters) on OpenWebText, without training.
# Data: python data/openwebtext/prepare.py

# run
init_from = "gpt2-medium"
eval_only = True
eval_iters = 500  # so many batches give a good estimate
wandb_log = False

# data
dataset = "openwebtext"
batch_size = 8
block_size = 1024  # tokens

# model
n_layer = 24
n_head = 16
n_embd = 1024
dropout = 0.0

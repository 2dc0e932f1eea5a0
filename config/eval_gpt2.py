# The loss of OpenAI's gpt2 (124 M parameters) on OpenWebText, without training.
# Data: python data/openwebtext/prepare.py

# run
init_from = "gpt2"
eval_only = True
eval_iters = 500  # so many batches give a good estimate
wandb_log = False

# data
dataset = "openwebtext"
batch_size = 8
block_size = 1024  # tokens

# model
n_layer = 12
n_head = 12
n_embd = 768
dropout = 0.0

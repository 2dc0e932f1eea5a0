# The loss of OpenAI's gpt2-large (774 M parameters) on OpenWebText, without training.
# Data: python data/openwebtext/prepare.py

# run
init_from = "gpt2-large"
eval_only = True
eval_iters = 500  # so many batches give a good estimate
wandb_log = False

# data
dataset = "openwebtext"
batch_size = 8
block_size = 1024  # tokens

# model
n_layer = 36
n_head = 20
n_embd = 1280
dropout = 0.0

# A 0.80 M character model of the embedded fables on a CPU: about two minutes on two cores. `make train` runs it.
# Data: python data/fables/prepare.py; its entropy is known, so the final table says how far the model is from the floor.

# run
out_dir = "out-fables"
eval_interval = 600
eval_iters = 0  # a deterministic sweep
log_interval = 50
always_save_checkpoint = False
device = "cpu"
compile = False
wandb_log = False
wandb_project = "fables"
wandb_run_name = "mini-gpt"

# data
dataset = "fables"
gradient_accumulation_steps = 1
batch_size = 12
block_size = 64  # characters

# model
n_layer = 4
n_head = 4
n_embd = 128
dropout = 0.0
bias = False

# AdamW and its schedule
max_iters = 3600
learning_rate = 1e-3
min_lr = 1e-4
decay_lr = True
warmup_iters = 100
lr_decay_iters = 3600
weight_decay = 1e-1
beta1 = 0.9
beta2 = 0.99
grad_clip = 1.0

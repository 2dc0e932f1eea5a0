# A 10.65 M character model of TinyStories: under an hour on one GPU. One pass does not overfit, so no dropout.
# Data: python data/tinystories/prepare.py --tokenizer char

# run
out_dir = "out-tinystories"
eval_interval = 500
eval_iters = 0  # a deterministic sweep
log_interval = 10
always_save_checkpoint = False
wandb_log = False
wandb_project = "tinystories"
wandb_run_name = "mini-gpt"

# data
dataset = "tinystories"
gradient_accumulation_steps = 1
batch_size = 64
block_size = 256  # characters

# model
n_layer = 6
n_head = 6
n_embd = 384
dropout = 0.0
bias = False

# AdamW and its schedule
max_iters = 20000
learning_rate = 1e-3
min_lr = 1e-4
decay_lr = True
warmup_iters = 200
lr_decay_iters = 20000
weight_decay = 1e-1
beta1 = 0.9
beta2 = 0.99
grad_clip = 1.0

# A 10.65 M character model of Shakespeare: minutes on one GPU; it overfits, so only the best checkpoint is kept.
# Data: python data/shakespeare_char/prepare.py

# run
out_dir = "out-shakespeare-char"
eval_interval = 250
eval_iters = 200
log_interval = 10
always_save_checkpoint = False
wandb_log = False
wandb_project = "shakespeare-char"
wandb_run_name = "mini-gpt"

# data
dataset = "shakespeare_char"
gradient_accumulation_steps = 1
batch_size = 64
block_size = 256  # characters

# model
n_layer = 6
n_head = 6
n_embd = 384
dropout = 0.2
bias = False

# AdamW and its schedule; a small model bears a high rate, and beta2 suits its few tokens per step
max_iters = 5000
learning_rate = 1e-3
min_lr = 1e-4
decay_lr = True
warmup_iters = 100
lr_decay_iters = 5000
weight_decay = 1e-1
beta1 = 0.9
beta2 = 0.99
grad_clip = 1.0

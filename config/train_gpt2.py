# GPT-2 (124 M) on OpenWebText: about four days on 8 A100s, validation loss about 2.85.
# torchrun --standalone --nproc_per_node=8 train_ockham.py config/train_gpt2.py
# Data: python data/openwebtext/prepare.py

# run
out_dir = "out"
eval_interval = 1000
eval_iters = 200
log_interval = 10
always_save_checkpoint = True
wandb_log = True
wandb_project = "owt"
wandb_run_name = "gpt2-124M"

# data: 12 sequences x 1024 tokens x 40 micro-batches over all ranks = 491,520 tokens in an iteration
dataset = "openwebtext"
batch_size = 12
block_size = 1024  # tokens
gradient_accumulation_steps = 5 * 8

# model
n_layer = 12
n_head = 12
n_embd = 768
dropout = 0.0
bias = False

# AdamW and its schedule: 600,000 iterations are 300 billion tokens
max_iters = 600000
learning_rate = 6e-4
min_lr = 6e-5
decay_lr = True
warmup_iters = 2000
lr_decay_iters = 600000
weight_decay = 1e-1
beta1 = 0.9
beta2 = 0.95
grad_clip = 1.0

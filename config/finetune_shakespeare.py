# Finetune the largest GPT-2 (1.6 B) on Shakespeare at a small constant rate:
# 20 iterations of 32,768 tokens over a corpus of 301,966.
# Data: python data/shakespeare/prepare.py

# run
out_dir = "out-shakespeare"
init_from = "gpt2-xl"
eval_interval = 5
eval_iters = 40
log_interval = 1
always_save_checkpoint = False  # only when validation improves
wandb_log = False
wandb_project = "shakespeare"
wandb_run_name = "ft-gpt2-xl"

# data
dataset = "shakespeare"
batch_size = 1
block_size = 1024  # tokens
gradient_accumulation_steps = 32

# model: its shape comes with the weights
dropout = 0.0

# AdamW, at a constant rate
max_iters = 20
learning_rate = 3e-5
decay_lr = False
weight_decay = 1e-1
beta1 = 0.9
beta2 = 0.95
grad_clip = 1.0

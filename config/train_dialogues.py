# The small base of `ockham chat`: a 0.9 M model of dialogues and fables.
# `ockham chat --make-base` runs it, with optimizer=muon: some eight minutes on two cores. Data: python data/dialogues/prepare.py

# run
out_dir = "out-online-base"
eval_interval = 1000
eval_iters = 0  # a deterministic sweep
eval_max_tokens = 40000
log_interval = 50
always_save_checkpoint = False
device = "cpu"
compile = False
wandb_log = False
wandb_project = "dialogues"
wandb_run_name = "online-base"

# data
dataset = "dialogues"
gradient_accumulation_steps = 1
batch_size = 24
block_size = 64  # tokens, some 200 characters: a message and its reply

# model
n_layer = 4
n_head = 4
n_embd = 128
dropout = 0.0
bias = False

# Muon on the matrices, AdamW on the rest (optimizer=muon), and the schedule
max_iters = 3600
learning_rate = 1e-3
min_lr = 1e-4
decay_lr = True
warmup_iters = 50
lr_decay_iters = 3600
weight_decay = 1e-1
beta1 = 0.9
beta2 = 0.99
grad_clip = 1.0

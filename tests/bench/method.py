"""How the numbers of the report come about, for its reader."""

from tests.bench.cases import SWEEP_WORKERS

METHOD = f"""\
- Common task: leave-one-out (last interaction of a user: test, last but one: validation, the rest: training), full
  catalogue, D = 64, 2 blocks, 1 head, dropout 0.2, Adam 1e-3, batch 128, T = 50 unless a table says otherwise. Every
  program reads the same two flat arrays.
- What is not measured: bf16 of the torch path but in training epochs; RecTools and RecBole where they have no such
  work (Barlow Twins, sweeps), on the synthetic data of Beauty's shape and where users or length grow.
- Every number comes from a process of its own. Programs take turns (A B C A B C ...); a ratio is taken within a round,
  and its median, least and greatest value over the rounds are given. Where one program of a case has changed (its
  code, what that imports, the versions of its packages), all programs of the case are measured anew. Two threads; a
  sweep has {SWEEP_WORKERS} worker processes of one thread each.
- The clock starts after a warm-up: a whole epoch (btsr), a few batches (the others, whose batches all have one shape).
  "k of n" marks epochs extrapolated from k batches; loader start-up is then not counted, to the peers' advantage. A
  bounded btsr epoch is one over the first k x 128 users.
- Peak memory is the highest resident size (VmHWM) of the measuring process, Python and torch included, loader
  processes not.
- The padded reference is the paper's design in plain torch: left-padded batches through a DataLoader with two workers,
  logits at every position, Barlow Twins by a second full pass; "tuned" adds glibc malloc settings against page faults
  and bf16 matrix products. A sweep of it is two processes of one torch thread each, with two loader workers each, as
  the design has them.
- btsr itself keeps freed memory by glibc's malloc settings and flushes denormal numbers, as its trials do; RecTools and
  RecBole run as they are installed.
- RecBole trains on one target per sample, with its default batch of 2,048 samples, and its epoch holds every prefix
  (see "targets"); its evaluation takes its default of 4,096 users at once and does not mask seen items (its default for
  sequential models). RecTools' evaluation is its `recommend` alone, without metrics. btsr's evaluation includes target
  ranks, top 50 and all metrics, with seen items masked.
- RecTools and RecBole number only the items that they are trained on. So that their catalogue is the whole one, their
  training data get users who hold the items that no other user's last T + 1 training rows hold: one user for ML-1M and
  Beauty, some thousands in a synthetic catalogue that is larger than its data. Those users are in no count: an epoch is
  as many batches as the others fill.
- A program refuses a batch whose logits and gradients would take more than 80 % of the free memory, and a driver that
  takes more than 90 % of it is stopped, so that nothing swaps: "no number" then says so.
- A sweep's number is the mean time of one trial-epoch over the trials of a worker, each of one epoch: the training
  epoch and the validation of all users (ours: `seconds_train` + `seconds_valid` of the epoch that `run_trial` logs),
  while the other worker does the same. Trial-epochs per hour are computed from it. Not in it, for neither program:
  start of the processes, imports, data, making the model; and for ours, evaluation of the test part, kept scores and
  states, recording and the queue. What `btsr-sweep` adds to `run_trial` is measured by the overhead cases. Ours has no
  warm-up here; the reference's bounded epochs leave out their first batches.
- The profile is of one epoch under torch's profiler, after another epoch: seconds of the main thread (the other threads
  work within the same operations) by the operation that asked for them. The profiler makes an epoch somewhat slower.
  Memory is read before the profiler starts: the peak so far, after each step of the way.
- A preparation goes from a text file of check-ins to what training reads, once, without a warm-up. btsr: one thread,
  SNAP's file; parsing, iterative 5-core filter, time order, temporal split, leak checks and statistics, written to
  disk and loaded. RecTools: SNAP's file by `pandas.read_csv`, `Dataset.construct`, leave-one-out by `LastNSplitter`,
  sequences by `SASRecDataPreparator`; it has no 5-core filter, so it keeps every row. RecBole: its own atomic file of
  the same rows (written beforehand, not counted), its 5-core filter, its augmentation to one sample per prefix in time
  order, leave-one-out, loaders. Peak memory counts imports, torch among them, for all three.
- An overhead is what the command `btsr-sweep` takes beyond the bare `run_trial` of the same trials in one process, with
  one worker, so that nothing hides behind another trial: per trial, (sweep of 100 - sweep of one - bare seconds of the
  other 99) / 99; the start, a sweep of one trial less its bare seconds. Data are prepared beforehand. Nothing to do:
  the same command again, all trials being done. CPU seconds are the same sums over processor time, which other
  programs on a busy machine disturb less; Ray's processes are no children of the command, so that theirs are not known.
- The rate of multiply-adds is measured whenever the report is written: independent sums in registers on all cores, the
  best of some tries and of all reports of the same folder. An epoch's products: three with the item table for every
  target, six maps of every block for every token, forward and twice backward, with Barlow Twins once more but for what
  the last token does not need. Attention, exponentials, norms, dropout and the optimiser are not in it.
- btsr programs: "torch" has native kernels switched off (`BTSR_KERNELS=off`), "kernels" on where the processor has
  what they need; "bf16" is `TrainConfig.precision`, fp32 otherwise.
"""

"""A tiny model made from a configuration, tiny text, and Trainers for the tests."""

import torch
import transformers

from cyclr import Opposite, Recipe, Triangular2

CYCLE = Triangular2(base_lr=0.001, max_lr=0.01, stepsize=4, cycles=3)
RECIPE = Recipe(
    lr=CYCLE,
    momentum=Opposite(schedule=CYCLE, bottom=0.001, top=0.01, low=0.85, high=0.95),
    total_steps=24,
)
WORDS = ["the", "good", "bad", "film", "was", "very", "not", "really", "a"]


def reviews(count=64):
    """Made-up reviews, positive if there is more good in them than bad."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(len(WORDS), (count, 8), generator=generator)
    good, bad = WORDS.index("good"), WORDS.index("bad")
    labels = ((tokens == good).sum(1) > (tokens == bad).sum(1)).long()
    return [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]


def counting(count):
    """Lines in which each word is followed by the next."""
    rows = [(torch.arange(8) + start) % len(WORDS) for start in range(count)]
    return [{"input_ids": row, "labels": row} for row in rows]


def bert(dropout=0.1):
    torch.manual_seed(0)
    configuration = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return transformers.BertForSequenceClassification(configuration)


def gpt2():
    torch.manual_seed(0)
    configuration = transformers.GPT2Config(
        vocab_size=len(WORDS), n_positions=8, n_embd=16, n_layer=1, n_head=2
    )
    return transformers.GPT2LMHeadModel(configuration)


def trainer(path, *callbacks, model=None, optimizers=(None, None), kind=None, **options):
    arguments = transformers.TrainingArguments(
        **{
            "output_dir": str(path),
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_steps": 1,
            "per_device_train_batch_size": 8,
            "max_steps": 100,
            **options,
        }
    )
    model = bert() if model is None else model
    made = (kind or transformers.Trainer)(
        model,
        arguments,
        train_dataset=reviews(),
        eval_dataset=reviews(16),
        callbacks=list(callbacks),
        optimizers=optimizers(model) if callable(optimizers) else optimizers,
    )
    made.remove_callback(transformers.PrinterCallback)
    return made


def settings(optimizer):
    group = optimizer.param_groups[0]
    momentum = group["betas"][0] if "betas" in group else group["momentum"]
    return {"lr": float(group["lr"]), "momentum": momentum, "decay": group["weight_decay"]}


class Used(transformers.TrainerCallback):
    """Notes what each update uses, from the optimizer itself."""

    def __init__(self) -> None:
        self.values = []

    def on_train_begin(self, args, state, control, optimizer=None, **kwargs) -> None:
        self.hook = optimizer.optimizer.register_step_pre_hook(
            lambda inner, *_: self.values.append(settings(inner))
        )

    def on_train_end(self, *_, **__) -> None:
        self.hook.remove()

    def __getitem__(self, key):
        return [values[key] for values in self.values]


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

from huibo.admission.numbers import mask, national  # noqa: F401

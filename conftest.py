"""What holds for every test, and for the examples in src."""

import os

# Keras picks its backend when it is first imported, which may be anywhere. The tests of its
# integration run on the other backends in processes of their own.
os.environ.setdefault("KERAS_BACKEND", "torch")

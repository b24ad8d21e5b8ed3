from hypothesis import settings

# The first example of each shape compiles, which says nothing about speed.
settings.register_profile("compiling", deadline=None)
settings.load_profile("compiling")

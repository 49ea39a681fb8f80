"""Other libraries' attacks, each library one component: ``torchattacks:CW``, ``foolbox:L2DeepFoolAttack``."""

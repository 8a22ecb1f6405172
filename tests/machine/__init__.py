"""Tests in a virtual machine with systemd, snapd and AppArmor; only `tox -e machine` runs them."""

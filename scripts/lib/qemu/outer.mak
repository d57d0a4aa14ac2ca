# The devices of the emulated machine (start_outer in ../outer.sh), and no others.
CONFIG_Q35=y
CONFIG_SERIAL_ISA=y
CONFIG_NVME_PCI=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y

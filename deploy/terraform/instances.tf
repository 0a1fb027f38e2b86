# SPDX-License-Identifier: Apache-2.0
data "aws_ami" "debian" {
  most_recent = true
  owners      = ["136693071363"] # Debian

  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }

  filter {
    name   = "virtualization-type"
    values = ["hvm"]
  }
}

locals {
  nodes = merge([
    for az in local.azs : { for index in range(var.nodes_per_az) : "${az}-${index}" => az }
  ]...)

  queues_per_az = floor(var.queues / 3)

  vnic_config = yamlencode({
    devices = {
      # The traffic interface; the first one stays the machine's own.
      ens6 = {
        num_queues = var.queues
        azs = [
          for index, az in local.azs : {
            name       = az
            queues     = "${index * local.queues_per_az}-${(index + 1) * local.queues_per_az - 1}"
            prefixes   = [local.subnets[az]]
            silence_ms = var.silence_ms
          }
        ]
      }
    }
    daemon = { listen = "127.0.0.1:9090" }
  })
}

resource "aws_network_interface" "traffic" {
  for_each = local.nodes

  subnet_id         = aws_subnet.this[each.value].id
  security_groups   = [aws_security_group.nodes.id]
  source_dest_check = false
  description       = "Traffic of ${each.key}, steered by vnicctl"
  tags              = { Name = "${var.name}-${each.key}-traffic" }
}

resource "aws_instance" "node" {
  for_each = local.nodes

  ami                    = data.aws_ami.debian.id
  instance_type          = var.instance_type
  subnet_id              = aws_subnet.this[each.value].id
  vpc_security_group_ids = [aws_security_group.nodes.id]
  key_name               = var.key_name
  ebs_optimized          = true
  tags                   = { Name = "${var.name}-${each.key}" }

  user_data_replace_on_change = true
  user_data = templatefile("${path.module}/cloud-init.yaml.tftpl", {
    package_url    = var.package_url
    package_sha256 = var.package_sha256
    queues         = var.queues
    vnic_config    = local.vnic_config
  })

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 16
    encrypted   = true
  }
}

resource "aws_network_interface_attachment" "traffic" {
  for_each = local.nodes

  instance_id          = aws_instance.node[each.key].id
  network_interface_id = aws_network_interface.traffic[each.key].id
  device_index         = 1
}

# SPDX-License-Identifier: Apache-2.0
output "availability_zones" {
  description = "The three zones, in the order in which they share the queues."
  value       = local.azs
}

output "nodes" {
  description = "Each machine with its zone, its own address and that of its traffic interface."
  value = {
    for name, az in local.nodes : name => {
      az              = az
      public_ip       = aws_instance.node[name].public_ip
      traffic_address = aws_network_interface.traffic[name].private_ip
    }
  }
}

output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

# SPDX-License-Identifier: Apache-2.0
variable "region" {
  description = "AWS region; it needs at least three availability zones."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "Prefix of the names of everything that is made."
  type        = string
  default     = "vnic"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,20}$", var.name))
    error_message = "A lower-case letter, then at most 20 letters, digits and hyphens."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC; each zone gets a sixteenth of them."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0))
    error_message = "An IPv4 prefix such as 10.0.0.0/16."
  }
}

variable "nodes_per_az" {
  description = "Machines in each zone."
  type        = number
  default     = 1
}

variable "instance_type" {
  description = "Type of the machines. XDP on ENA takes half of the queues: of 16 vCPUs and 32 queues, 16."
  type        = string
  default     = "c6in.4xlarge"
}

variable "queues" {
  description = "Combined queues of the traffic interface that vnicctl uses, shared out among three zones."
  type        = number
  default     = 15

  validation {
    condition     = var.queues >= 3 && var.queues <= 32 && floor(var.queues / 3) * 3 == var.queues
    error_message = "A multiple of 3, from 3 to 32."
  }
}

variable "package_url" {
  description = "https address of the vnicctl Debian package that the machines install."
  type        = string

  validation {
    condition     = startswith(var.package_url, "https://") && endswith(var.package_url, ".deb")
    error_message = "An https:// address that ends in .deb."
  }
}

variable "package_sha256" {
  description = "SHA-256 of that package, from the release's SHA256SUMS."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "64 hexadecimal digits."
  }
}

variable "key_name" {
  description = "EC2 key pair for SSH; null: none (Session Manager works without)."
  type        = string
  default     = null
}

variable "admin_cidrs" {
  description = "From where SSH is let in."
  type        = list(string)
  default     = []
}

variable "silence_ms" {
  description = "Silence of a zone after which the kernel fails it over."
  type        = number
  default     = 50
}

# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

# Places the orchestrator on the machines of an application sunbeam-machine that is deployed already.

terraform {
  required_version = ">= 1.5"

  required_providers {
    juju = {
      source  = "juju/juju"
      version = ">= 1.0, < 2.0"
    }
  }
}

provider "juju" {}

variable "model_uuid" {
  description = "The UUID of the model that has the application sunbeam-machine."
  type        = string
}

variable "machine_application" {
  description = "The name of the application of the charm sunbeam-machine."
  type        = string
  default     = "sunbeam-machine"
}

module "epa_orchestrator" {
  source = "../.."

  model_uuid = var.model_uuid
  channel    = "latest/edge"

  config = {
    require-isolated-cpus = "true"
    cpu-thread-policy     = "require"
  }
}

resource "juju_integration" "epa_orchestrator_to_machines" {
  model_uuid = var.model_uuid

  application {
    name     = module.epa_orchestrator.application.name
    endpoint = module.epa_orchestrator.requires.sunbeam_machine
  }

  application {
    name     = var.machine_application
    endpoint = "sunbeam-machine"
  }
}

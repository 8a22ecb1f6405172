# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

# A subordinate has neither units nor constraints of its own, and this charm needs no trust.
resource "juju_application" "epa_orchestrator" {
  name       = var.app_name
  model_uuid = var.model_uuid

  charm {
    name     = "epa-orchestrator"
    base     = var.base
    channel  = var.channel
    revision = var.revision
  }

  config            = var.config
  resources         = var.resources
  endpoint_bindings = var.endpoint_bindings
}

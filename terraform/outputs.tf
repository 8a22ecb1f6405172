# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

output "application" {
  description = "The deployed application: the whole resource juju_application."
  value       = juju_application.epa_orchestrator
}

output "provides" {
  description = "The endpoints that the charm provides, for juju_integration."
  value = {
    cos_agent = "cos-agent"
  }
}

output "requires" {
  description = "The endpoints that the charm requires, for juju_integration. Only sunbeam_machine must be integrated."
  value = {
    receive_ca_cert = "receive-ca-cert"
    sunbeam_machine = "sunbeam-machine"
    tracing         = "tracing"
  }
}

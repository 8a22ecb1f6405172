# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

variable "app_name" {
  description = "The name of the application in the model."
  type        = string
  default     = "epa-orchestrator"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*$", var.app_name))
    error_message = "app_name must be a name for Juju: lower-case letters, digits and single hyphens, such as epa-orchestrator."
  }
}

variable "model_uuid" {
  description = "The UUID of the model of the machines, such as juju_model.machines.uuid."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.model_uuid))
    error_message = "model_uuid must be the UUID of a model, not its name: juju models --uuid shows it."
  }
}

variable "base" {
  description = "The base of the charm, which is that of its principal."
  type        = string
  default     = "ubuntu@24.04"
  nullable    = false

  validation {
    condition     = contains(["ubuntu@24.04"], var.base)
    error_message = "base must be ubuntu@24.04: the charm has no other base."
  }
}

variable "channel" {
  description = "The channel of Charmhub to deploy from, such as latest/edge."
  type        = string
  default     = "latest/stable"
  nullable    = false

  validation {
    condition     = can(regex("^[^/]+/(stable|candidate|beta|edge)(/[^/]+)?$", var.channel))
    error_message = "channel must be a track and a risk, such as latest/stable or latest/edge."
  }
}

variable "revision" {
  description = "The revision of the charm. If null, the first deployment takes the newest of the channel, and later ones keep it until another input of the charm changes."
  type        = number
  default     = null

  validation {
    condition     = var.revision == null ? true : var.revision >= 0 && floor(var.revision) == var.revision
    error_message = "revision must be a whole number from 0 on, or null."
  }
}

variable "config" {
  description = "The options of the charm, such as { reserved-cpus = \"4-5\" }. An option that is left out has its default value."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "resources" {
  description = "The resource to use instead of that of the channel, as its revision on Charmhub: { epa-orchestrator-snap = \"3\" }."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.resources) : contains(["epa-orchestrator-snap"], name)])
    error_message = "resources may have epa-orchestrator-snap alone: the charm has no other resource."
  }

  validation {
    condition     = alltrue([for revision in values(var.resources) : can(regex("^[0-9]+$", revision))])
    error_message = "resources must name a revision on Charmhub, such as \"3\". To use a file, run juju attach-resource."
  }
}

variable "endpoint_bindings" {
  description = "The spaces to bind endpoints to. An element without endpoint is the space of all others."
  type = set(object({
    space    = string
    endpoint = optional(string)
  }))
  default  = []
  nullable = false

  validation {
    condition = alltrue([
      for binding in var.endpoint_bindings : binding.endpoint == null ? true : contains(
        ["cos-agent", "receive-ca-cert", "sunbeam-machine", "tracing"], binding.endpoint
      )
    ])
    error_message = "endpoint_bindings may name cos-agent, receive-ca-cert, sunbeam-machine and tracing: the charm has no other endpoint."
  }
}

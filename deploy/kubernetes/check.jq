# Generates from the Deployment a Job that runs markread check once, with the same image,
# environment, secret, user and network.
#
#     kubectl get deployment markread -o json | jq -f deploy/kubernetes/check.jq |
#       kubectl replace --force -f -
{
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: {name: (.metadata.name + "-check"), namespace: .metadata.namespace} | del(.. | nulls),
  spec: {
    backoffLimit: 0,
    activeDeadlineSeconds: 120,
    ttlSecondsAfterFinished: 3600,
    template: (
      .spec.template
      | {metadata: {labels: .metadata.labels}, spec}
      | .spec.restartPolicy = "Never"
      | .spec.containers |= map(
          .args = ["check"] | del(.startupProbe, .livenessProbe, .readinessProbe))
    )
  }
}

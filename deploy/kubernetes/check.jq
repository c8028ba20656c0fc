# Of the Deployment, the Job that checks it: markread check with the same image, environment, secret, user and network. It runs once.
#
#     kubectl get deployment markread -o json | jq -f deploy/kubernetes/check.jq | kubectl replace --force -f -
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
      | .spec.containers |= map(.args = ["check"] | del(.startupProbe, .livenessProbe, .readinessProbe))
    )
  }
}

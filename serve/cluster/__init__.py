"""Ray, Serve and HAProxy: settings, deployment, the standby entrance."""

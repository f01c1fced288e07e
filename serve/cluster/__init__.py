"""Ray, Serve and HAProxy: settings, deployment, the standby that holds the listening socket."""

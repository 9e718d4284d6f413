package main

import "fmt"

// drawing is the topology with the addresses that the run had.
func (d *oneNode) drawing() string {
	addr := func(i int) string { return fmt.Sprintf("%-15s", d.pods[i].addrs[0]) }
	port := fmt.Sprintf(":%d > pod-a:%d", hostPort, podPort)
	return fmt.Sprintf(`
   pod-a                pod-b                pod-c
   eth0                 eth0                 eth0
   %s      %s      %s
     |                    |                    |
     veth                 veth                 veth
     |                    |                    |
  +--+--------------------+--------------------+----------+
  |  cni0  10.244.0.1/16           host                   |
  |                                                       |
  |  masquerade 10.244.0.0/16      %-20s   |
  |  uplink %-15s                               |
  +----+--------------------------------------------------+
       |
     eth0  %s  outside
`, addr(0), addr(1), addr(2), port, hostAddr, outsideAddr)
}

// Command nothing only returns: what starting a static Go program costs.
package main

func main() {}

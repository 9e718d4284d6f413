package nft

// DeleteHeld removes what Holdings told of, whoever's it is. What has gone meanwhile is no error.
func (t *Tables) DeleteHeld(held ...Holding) error {
	if len(held) == 0 {
		return nil
	}
	return unlessMissing(t.locked(func(c *conn) error {
		holdings := make([]holding, len(held))
		for i, h := range held {
			holdings[i] = holding{t.table(h.Feature), h.Feature, h.Link}
		}
		return t.remove(c, holdings...)
	}))
}

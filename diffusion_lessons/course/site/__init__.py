"""The site: pages made of the lessons' sources and of the solved notebooks, nothing executed."""

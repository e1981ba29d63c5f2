"""From a history to a list: ranking, masks, popular items for new users, approximate search."""

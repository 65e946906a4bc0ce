return living()
